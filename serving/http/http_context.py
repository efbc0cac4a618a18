"""What stands for gRPC's context where a call comes over HTTP."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, NoReturn, Protocol, cast

import grpc
from google.rpc.status_pb2 import Status
from starlette.types import Receive, Scope, Send

from serving.core.errors import ErrorKind, ServingError
from serving.http.json_body import check_json_type
from serving.http.problems import HttpError, problem_response
from serving.rpc.call_context import RpcContext
from serving.rpc.error_to_status import DETAILS_KEY, from_status

DEADLINE_HEADER = "sparseclip-timeout"
"""How many seconds a caller gives its call."""

_LAST_WORDS_S = 1.0
"""How long the caller of a stream may take to read its error."""
_PIECE = 64 * 1024
"""A reply is sent in pieces of this size, each when the caller has read those before."""


class RefusedCallError(Exception):
    """A call has ended with an error that its caller can read."""

    def __init__(self, error: ServingError) -> None:
        super().__init__(error.message)
        self.error = error


class ReplyKind(Protocol):
    """What a reply is."""

    @property
    def media_type(self) -> str:
        """Its type."""

    @property
    def response_streaming(self) -> bool:
        """Whether it is written in several pieces, whose number nobody knows before."""


class HttpContext:
    """One request, with the methods of gRPC's context that the chain and the services use."""

    door = "http"
    """How the call came, for its trace."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        body_bytes: int,
        reply: ReplyKind,
    ) -> None:
        """`body_bytes` bounds the body of the request; what `reply` says of the reply is asked when
        the body has been read."""
        self._receive = receive
        self._send = send
        self._body_bytes = body_bytes
        self._reply = reply
        self._has_body = scope["method"] == "POST"
        self._has_query = bool(scope["query_string"])
        self._headers = tuple(
            (key.decode("latin-1"), value.decode("latin-1")) for key, value in scope["headers"]
        )
        self._reading = False
        self._cut = scope.get("state", {}).get("cut")
        self._watch: asyncio.Task[None] | None = None
        self._http_error: HttpError | None = None
        self.started = False
        """Whether the reply has begun: its status can change no more."""
        self.hung_up = False
        """The caller has left, and the call's task was cancelled for it."""

    @property
    def rpc(self) -> RpcContext:
        """This context as the services see it."""
        return cast(RpcContext, self)

    def header(self, name: str) -> str:
        """A header of the request; empty where it has none."""
        return next((value for key, value in self._headers if key == name), "")

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """The headers, their names in lower case."""
        return self._headers

    def time_remaining(self) -> float | None:
        """Seconds that the caller gives the call; None if it does not say. Raises ServingError."""
        text = self.header(DEADLINE_HEADER)
        if not text:
            return None
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not math.isfinite(seconds):
            raise ServingError(
                ErrorKind.INVALID, f"{DEADLINE_HEADER}: must be seconds", field=DEADLINE_HEADER
            )
        return seconds

    async def read(self) -> bytes:
        """The body of the request. Raises HttpError for one that is too large, unread where its
        size is announced."""
        try:
            body = await self._read_body() if self._has_body else b""
        except HttpError as error:
            self._http_error = error
            raise
        task = asyncio.current_task()
        assert task is not None
        self._watch = asyncio.get_running_loop().create_task(self._hang_up(task))
        return body

    async def _read_body(self) -> bytes:
        self._reading = True
        if self._has_query:  # what a caller asks for there would be lost without a word
            raise HttpError(400, "the address of a call with a body has no parameters")
        check_json_type(self.header("content-type"), self.header("content-encoding"))
        length = self.header("content-length")
        if length.isdigit() and int(length[:20]) > self._body_bytes:
            raise self._too_large()
        body = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise asyncio.CancelledError
            body += message.get("body", b"")
            if len(body) > self._body_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                self._reading = False
                return bytes(body)

    def _too_large(self) -> HttpError:
        return HttpError(413, f"the body has more than {self._body_bytes} bytes")

    async def write(self, reply: bytes) -> None:
        """Sends a part of the reply, as the caller reads it."""
        await self._start(None if self._reply.response_streaming else len(reply))
        for begin in range(0, len(reply), _PIECE):
            piece = reply[begin : begin + _PIECE]
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def finish(self, last: bytes = b"") -> None:
        """Sends the last part of the reply, and ends it."""
        self.close()  # the end of the reply would look like a caller who leaves
        await self._start(length=None if self.started else len(last))
        await self._send({"type": "http.response.body", "body": last, "more_body": False})

    async def _start(self, length: int | None) -> None:
        if self.started:
            return
        self.started = True
        headers = [
            (b"content-type", self._reply.media_type.encode()),
            (b"cache-control", b"no-store"),
        ]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def fail(
        self,
        error: ServingError,
        scope: Scope,
        as_event: Callable[[ServingError], bytes] | None,
    ) -> None:
        """Sends an error as the whole reply. One that has begun ends with an event, or is cut off
        where it has none, or where its caller does not read."""
        self.close()
        if not self.started:
            self.started = True
            await problem_response(error)(scope, self._receive, self._send)
            return
        try:
            if as_event is not None:
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self.finish(as_event(error))
                    return
        except TimeoutError:
            pass
        if self._cut is not None:
            self._cut()

    async def abort(self, code: Any, details: str, metadata: Any = ()) -> NoReturn:
        """Ends the call with a status of gRPC, which carries the details of the error."""
        raise RefusedCallError(self._error(code, details, dict(metadata)))

    def _error(self, code: grpc.StatusCode, message: str, metadata: dict[str, Any]) -> ServingError:
        if self._http_error is not None:
            return self._http_error
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and self._reading:
            return HttpError(408, message)
        if encoded := metadata.get(DETAILS_KEY):
            return from_status(Status.FromString(encoded))
        return from_status(Status(code=code.value[0], message=message))

    def close(self) -> None:
        """Watches the caller no more."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    async def _hang_up(self, task: asyncio.Task[Any]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.hung_up = True
        task.cancel()
