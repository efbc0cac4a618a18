"""The scripted server as a fixture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sparseclip import Client, RetryPolicy
from sparseclip.v1 import embedding_pb2
from tests.sparseclip.scripted import Scripted, start

FAST = RetryPolicy(first_delay=0.001, max_delay=0.002)


def limits() -> embedding_pb2.Limits:
    """Small limits, so that few items make many calls."""
    return embedding_pb2.Limits(
        message_bytes=100 * 1024,
        image_bytes=30 * 1024,
        images_per_call=4,
        texts_per_call=3,
        text_bytes=100,
        max_deadline_seconds=60,
    )


@pytest.fixture
def script() -> Scripted:
    """What the server is going to do."""
    return Scripted(limits=limits())


@pytest.fixture
def address(script: Scripted, tmp_path: Path) -> Iterator[str]:
    """Where the scripted server listens."""
    path = f"unix:{tmp_path}/s"
    server, _ = start(script, path)
    yield path
    server.stop(None).wait()


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    """A client of the scripted server that retries without waiting long."""
    with Client(address, retry=FAST) as opened:
        yield opened
