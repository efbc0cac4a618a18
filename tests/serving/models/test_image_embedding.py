"""What is left of a call whose caller leaves in the middle of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest_asyncio

from bundle.manifest import Framing
from bundle.preprocessor import ImageCoverage, ImagePixels
from serving.batching.batcher import Batcher
from serving.core.metrics import Metrics
from serving.core.priority_queue import WorkPriority
from serving.core.requests import ImageItem
from serving.models.image_embedding import ImageEmbedding
from tests.serving.batching.test_batcher import Gated, batcher_of

PIXELS = ImagePixels(
    np.zeros(3, np.float32), ImageCoverage(framing=None, image_share=1.0, ground=None, frames=1)
)


class HeldDecoders:
    """Decodes an image when the test says so, between two steps of the event loop."""

    def __init__(self) -> None:
        self.decoded: list[asyncio.Future[ImagePixels]] = []

    def submit(
        self, data: bytes, framing: Framing | None, priority: WorkPriority
    ) -> asyncio.Future[ImagePixels]:
        self.decoded.append(asyncio.get_running_loop().create_future())
        return self.decoded[-1]


@pytest_asyncio.fixture
async def batcher() -> AsyncIterator[tuple[Batcher, Gated]]:
    gate = Gated()
    gate.open.set()
    batcher = batcher_of(gate, wait_s=0.002)
    yield batcher, gate
    await batcher.close()


async def test_an_image_decoded_while_its_caller_leaves_is_neither_run_nor_expected(
    batcher: tuple[Batcher, Gated],
) -> None:
    images, gate = batcher
    decoders = HeldDecoders()
    metrics = Metrics().batcher("image")
    deadline = asyncio.get_running_loop().time() + 30

    async def call() -> None:
        with images.admission.admit(1, deadline) as permits:
            embedding = ImageEmbedding(
                decoders, images, permits, deadline, lambda succeeded: None, metrics.queue
            )
            await embedding.results([ImageItem(id="", data=b"x")])

    calls = [asyncio.create_task(call()) for _ in range(3)]
    await asyncio.sleep(0)
    for task, decoded in zip(calls, decoders.decoded, strict=True):
        task.cancel()
        decoded.set_result(PIXELS)  # in the same step of the loop
    await asyncio.gather(*calls, return_exceptions=True)
    await asyncio.sleep(0.05)
    assert images.admission.expected == 0
    assert images.admission.admitted == 0
    assert gate.batches == []
