"""F-01 to F-03: bytes that are no message, and messages that are too large."""

from __future__ import annotations

import random
import struct

import grpc
import pytest
from google.protobuf import descriptor

from sparseclip.v1 import embedding_pb2
from tests.serving.support.running_server import (
    EMBED,
    PNG,
    STREAM,
    Running,
    embed_request,
    refused,
    survives,
)
from tests.serving.support.wire_contract import UNARY, path_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


GROUPS = b"\x0b" * 200 + b"\x0c" * 200  # field 1 as a group, 200 deep
BAD_UTF8 = (
    embedding_pb2.EmbedInput(id="aa", text="x").SerializeToString().replace(b"aa", b"\xff\xfe")
)


def corrupt(seed: int) -> bytes:
    rng = random.Random(seed)
    whole = embed_request(PNG, texts=("a",)).SerializeToString()
    if seed % 2:
        return whole[: rng.randrange(1, len(whole) - 60)]
    return b"\x0a\xff" + rng.randbytes(rng.randrange(1, 400))


async def test_f01_corrupt_bytes_are_refused_with_a_constant_text(shared: Running) -> None:
    texts = set()
    rng = iter(range(10_000))

    async def fault() -> None:
        error = await refused(shared.raw(EMBED, corrupt(next(rng))))
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        texts.add(error.message)

    await survives(shared, fault)
    assert texts == {"the message cannot be parsed"}


@pytest.mark.parametrize("method", UNARY, ids=lambda m: m.name)
async def test_f02_deep_nesting_and_bad_utf8(
    shared: Running, method: descriptor.MethodDescriptor
) -> None:
    error = await refused(shared.raw(path_of(method), GROUPS))
    assert (error.code, error.message) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "the message cannot be parsed",
    )


async def test_f02_bad_utf8(shared: Running) -> None:
    raw = b"\x12" + bytes([len(BAD_UTF8)]) + BAD_UTF8
    error = await refused(shared.raw(EMBED, raw))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_f02_unknown_fields_are_ignored(shared: Running) -> None:
    raw = embed_request(PNG).SerializeToString() + b"\xfa\x3f\x03abc"
    reply = embedding_pb2.EmbedResponse.FromString(await shared.raw(EMBED, raw))
    assert reply.results[0].status.code == 0


async def test_f01_corrupt_message_in_a_stream(shared: Running) -> None:
    start = embedding_pb2.EmbedStreamRequest(start=embedding_pb2.EmbedStreamStart())

    async def fault() -> None:
        call = shared.channel.stream_stream(STREAM)(
            iter([start.SerializeToString(), b"\x12\xff\xff\xff\xff\x0f"])
        )
        assert (await refused(call.read())).code is grpc.StatusCode.INVALID_ARGUMENT

    await survives(shared, fault, repeats=30)


def request_of(size: int) -> bytes:
    """A request of exactly `size` bytes: a good image and an unknown field."""
    whole = embed_request(PNG).SerializeToString()
    padding = size - len(whole) - 6  # two bytes of tag, four of length
    rest = struct.pack("BBBB", *((padding >> shift & 0x7F | 0x80) for shift in (0, 7, 14)), 0)
    rest = rest[:3] + bytes([padding >> 21])
    return whole + b"\xfa\x3f" + rest + b"\0" * padding


async def test_f03_messages_up_to_the_limit(shared: Running) -> None:
    limit = shared.server.config.limits.message_bytes
    for size in (limit - 1, limit):
        raw = request_of(size)
        assert len(raw) == size
        reply = embedding_pb2.EmbedResponse.FromString(await shared.raw(EMBED, raw))
        assert reply.results[0].status.code == 0

    async def fault() -> None:
        error = await refused(shared.raw(EMBED, request_of(limit + 1)))
        assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED

    # Threads of gRPC keep some of the 16 MiB each, about 60 MiB in all. Messages that stay would be
    # 320 MiB.
    await survives(shared, fault, repeats=20, growth=128)


async def test_f03_gzip_bomb(shared: Running) -> None:
    call = shared.channel.unary_unary(EMBED)
    zeros = b"\0" * (32 * 2**20)  # 32 KiB on the wire

    async def fault() -> None:
        error = await refused(call(zeros, compression=grpc.Compression.Gzip, timeout=60))
        assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED

    await survives(shared, fault, repeats=10, first=2, growth=128)
