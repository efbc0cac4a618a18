"""Calls that no gRPC client makes, and what must become of each of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import grpc

from tests.serving.support.certificates import ALICE
from tests.serving.support.raw_http2 import Reply, connected, framed
from tests.serving.support.raw_http2 import bearer as raw_bearer
from tests.serving.support.running_server import PNG, assert_clean, embed_request

EMBED = b"/sparseclip.v1.EmbeddingService/Embed"
STREAM = b"/sparseclip.v1.EmbeddingService/EmbedStream"
GET_MODEL = b"/sparseclip.v1.EmbeddingService/GetModel"
CHECK = b"/grpc.health.v1.Health/Check"

REQUEST = embed_request(PNG).SerializeToString()


@dataclass(frozen=True, kw_only=True)
class RawCall:
    """One call, and the statuses that may answer it; None stands for a reset stream."""

    path: bytes = EMBED
    body: bytes = framed(REQUEST)
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of RawConnection.send."""
    statuses: tuple[grpc.StatusCode | None, ...]


def _headers(**headers: bytes) -> dict[str, Any]:
    names = {name: name.replace("_", "-").encode() for name in headers}
    return {"headers": [(names[name], value) for name, value in headers.items()]}


_OK = (grpc.StatusCode.OK,)
_INVALID = (grpc.StatusCode.INVALID_ARGUMENT,)
_REFUSED_BY_GRPC = (grpc.StatusCode.INTERNAL, None)
"""gRPC itself answers a call whose HTTP/2 is not gRPC's, with a constant text."""

UNKNOWN_PATHS = {
    "without a slash": b"noslash",
    "empty": b"",
    "a star": b"*",
    "a slash": b"/",
    "two slashes": b"//",
    "three parts": b"/a/b/c",
    "no method": b"/sparseclip.v1.EmbeddingService/",
    "another case": EMBED.lower(),
    "not UTF-8": b"/sparseclip.v1.EmbeddingService/\xff",
    "not UTF-8 at all": b"\xff\xfe\xfd",
    "long": b"/" + b"x" * 4_000,
    "a query": EMBED + b"?a=b",
    "the health of another package": b"/grpc.health.v2.Health/Check",
}

RAW_CALLS = {
    "a good one": RawCall(statuses=_OK),
    "an empty message": RawCall(body=framed(b""), statuses=_INVALID),
    "garbage": RawCall(body=framed(b"\xff" * 99), statuses=_INVALID),
    "a message that claims 4 GiB": RawCall(
        body=b"\0\xff\xff\xff\xff" + b"x" * 99, statuses=(grpc.StatusCode.RESOURCE_EXHAUSTED,)
    ),
    "two messages": RawCall(body=framed(REQUEST) * 2, statuses=_OK),
    "no message": RawCall(body=b"", statuses=_INVALID),
    "half a prefix": RawCall(body=b"\0\0\0", statuses=_INVALID),
    "half a message": RawCall(body=framed(REQUEST)[:-5], statuses=_INVALID),
    "health without a message": RawCall(path=CHECK, body=b"", statuses=_INVALID),
    "a stream without messages": RawCall(path=STREAM, body=b"", statuses=_INVALID),
    "compressed, without saying how": RawCall(
        body=b"\1" + framed(REQUEST)[1:], statuses=_REFUSED_BY_GRPC
    ),
    "compressed, and not what it says": RawCall(
        body=b"\1" + framed(REQUEST)[1:],
        options=_headers(grpc_encoding=b"gzip"),
        statuses=_REFUSED_BY_GRPC,
    ),
    "an unknown compression": RawCall(
        options=_headers(grpc_encoding=b"zstd"), statuses=_REFUSED_BY_GRPC
    ),
    "a GET": RawCall(options={"method": b"GET"}, statuses=(None,)),
    "a deadline that is no time": RawCall(
        options=_headers(grpc_timeout=b"soon"), statuses=_REFUSED_BY_GRPC
    ),
    "a deadline that has passed": RawCall(
        options=_headers(grpc_timeout=b"0S"), statuses=(grpc.StatusCode.DEADLINE_EXCEEDED, None)
    ),
    "a deadline of eleven thousand years": RawCall(
        options=_headers(grpc_timeout=b"99999999H"), statuses=_OK
    ),
    "a header that is not UTF-8": RawCall(options=_headers(x_a=b"\xff\xfe"), statuses=_OK),
    "a token that is not UTF-8": RawCall(
        path=GET_MODEL,
        body=framed(b""),
        options=_headers(authorization=b"Bearer \xff\xfe"),
        statuses=(grpc.StatusCode.UNAUTHENTICATED,),
    ),
    "a header of bytes that are none": RawCall(
        options=_headers(x_bin=b"!!!"), statuses=_REFUSED_BY_GRPC
    ),
    "health with a message that is none": RawCall(
        path=CHECK, body=framed(b"\xff\xff"), statuses=_INVALID
    ),
}


async def answer(address: str, call: RawCall) -> Reply:
    """Makes the call in a thread of its own; without a status when the connection is reset."""

    def send() -> Reply:
        with connected(address) as connection:
            try:
                connection.send(call.path, call.body, **call.options)
                return connection.reply()
            except ConnectionError:
                return Reply(status=None)

    reply = await asyncio.to_thread(send)
    assert_clean(reply.message)
    return reply


def authenticated(call: RawCall) -> RawCall:
    """The call with a token, unless it has one."""
    headers = list(call.options.get("headers", ()))
    if all(name != b"authorization" for name, _ in headers):
        headers += raw_bearer(ALICE)
    options = {**call.options, "headers": headers}
    return RawCall(path=call.path, body=call.body, options=options, statuses=call.statuses)
