"""Calls that tests of the server's load hold in the air."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from sparseclip.v1 import embedding_pb2
from tests.serving.support.running_server import PNG, Running, embed_request, eventually

Call = asyncio.Future[Any]


def start(running: Running, request: embedding_pb2.EmbedRequest, **options: Any) -> Call:
    return asyncio.ensure_future(running.stub.Embed(request, **options))


def embeddings(reply: embedding_pb2.EmbedResponse) -> list[list[float]]:
    return [list(result.dense) for result in reply.results]


def assert_same(reply: embedding_pb2.EmbedResponse, other: embedding_pb2.EmbedResponse) -> None:
    """The same answers; runs of other batch sizes may differ in a float's last bits."""
    np.testing.assert_allclose(embeddings(reply), embeddings(other), rtol=0, atol=1e-6)


async def occupy(running: Running) -> Call:
    """A call that is inside the blocked engine."""
    first = start(running, embed_request(PNG), timeout=60)
    assert await eventually(running.engine.entered.is_set)
    return first


def batcher(running: Running) -> Any:
    return running.server.registry.models[0].batchers["image"]
