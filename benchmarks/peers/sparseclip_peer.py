"""Our own server, as users start it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from benchmarks.open_loop import EMBED
from benchmarks.peers.base import EmbeddingCaller, PeerServer, RefusedError
from benchmarks.running_server import serving
from bundle.schema import from_dict
from bundle.store import open_bundle
from serving.engine_plans.open_engine import resolve
from serving.engines import AUTO
from serving.engines.base import EngineConfig
from sparseclip.v1 import embedding_pb2


async def reply_of(send: Any, message: bytes) -> bytes:
    """The reply to a message that `send` sends by gRPC. Raises RefusedError, RuntimeError."""
    try:
        reply: bytes = await send(message, timeout=600)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise RefusedError from error
        raise RuntimeError(f"{error.code().name}: {error.details()}") from error
    return reply


class SparseclipCaller:
    """Calls Embed. The reply of a dense bundle is its vectors, that of a sparse one its codes."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._send = channel.unary_unary(EMBED, None, None)

    def message(self, images: Sequence[bytes]) -> bytes:
        """See EmbeddingCaller.message."""
        inputs = [embedding_pb2.EmbedInput(image=image) for image in images]
        return embedding_pb2.EmbedRequest(inputs=inputs).SerializeToString()

    async def send(self, message: bytes) -> bytes:
        """See EmbeddingCaller.send."""
        reply = await reply_of(self._send, message)
        for result in embedding_pb2.EmbedResponse.FromString(reply).results:
            if result.status.code:
                raise RuntimeError(f"an image failed: {result.status.message}")
        return reply

    def vectors(self, reply: bytes) -> NDArray[np.float32]:
        """See EmbeddingCaller.vectors."""
        results = embedding_pb2.EmbedResponse.FromString(reply).results
        return np.array([result.dense for result in results], dtype=np.float32)


@contextlib.contextmanager
def sparseclip(bundle: Path, *flags: str) -> Iterator[PeerServer]:
    """Serves a bundle."""
    with serving(bundle, *flags) as server:

        @contextlib.asynccontextmanager
        async def calling() -> AsyncIterator[EmbeddingCaller]:
            # Without a limit on the reply's size, and without retries, which would hide refusals.
            options = [("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0)]
            async with grpc.aio.insecure_channel(server.address, options) as channel:
                yield SparseclipCaller(channel)

        described = f"sparseclip serve {' '.join(flags)}: {engine_of(bundle, flags)}"
        yield PeerServer(description=described, process=server.process, calling=calling)


def engine_of(bundle: Path, flags: Sequence[str]) -> str:
    """The engine and precision of a server that has started with these flags."""
    given = dict(zip(flags[::2], flags[1::2], strict=False))
    named = {"name": given.get("--engine", AUTO), "precision": given.get("--precision", AUTO)}
    config = resolve(open_bundle(bundle), from_dict(EngineConfig, named, "engine"))
    return f"{config.name} {config.precision}"
