"""The protocol of a decoding process: several images at once, errors, and death."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from bundle.image import ImageLimits
from bundle.manifest import Framing, Preprocessing
from bundle.preprocessor import ImageCoverage, ImagePixels, Preprocessor
from serving.core.errors import ErrorKind, ServingError
from serving.image_decoding.messages import (
    RequestedImage,
    pack_reply,
    pack_request,
    unpack_reply,
    unpack_request,
)
from serving.image_decoding.process import DecodeProcess, ImageToDecode, WorkerDiedError
from tests.serving.support.running_server import encoded_image

PREPROCESSING = Preprocessing(size=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
LIMITS = ImageLimits(bytes=100_000)
SLOTS = 3

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def process() -> AsyncIterator[DecodeProcess]:
    started = DecodeProcess(PREPROCESSING, LIMITS, SLOTS)
    try:
        await started.ready
        yield started
    finally:
        started.close()


async def decode(process: DecodeProcess, *images: bytes) -> list[ImagePixels | ServingError]:
    return await process.decode([ImageToDecode(data) for data in images], 10.0)


def assert_same(decoded: ImagePixels, data: bytes, framing: Framing | None = None) -> None:
    expected = Preprocessor(PREPROCESSING).decode(data, LIMITS, framing)
    np.testing.assert_array_equal(decoded.pixels, expected.pixels)
    assert decoded.coverage == expected.coverage


async def test_each_image_has_its_slot_and_errors_keep_theirs(process: DecodeProcess) -> None:
    first, third = encoded_image(1), encoded_image(2, size=(64, 20), form="JPEG")
    decoded = await decode(process, first, b"no image", third)
    assert_same(decoded[0], first)
    assert_same(decoded[2], third)
    assert isinstance(decoded[1], ServingError)
    assert decoded[1].kind is ErrorKind.INVALID
    assert decoded[1].message == "image: unsupported image"


async def test_pixels_are_not_overwritten_by_the_next_request(process: DecodeProcess) -> None:
    images = [encoded_image(seed) for seed in range(4)]
    [kept] = await decode(process, *images[:1])
    later = await decode(process, *images[1:])
    assert_same(kept, images[0])
    for decoded, data in zip(later, images[1:], strict=True):
        assert_same(decoded, data)


@pytest.mark.parametrize("framing", ["crop", "pad"])
async def test_the_framing_goes_in_and_the_coverage_comes_out(
    process: DecodeProcess, framing: Framing
) -> None:
    data = encoded_image(size=(80, 20))
    [decoded] = await process.decode([ImageToDecode(data, framing)], 10.0)
    assert_same(decoded, data, framing)
    assert decoded.coverage.framing == framing
    assert decoded.coverage.image_share == (0.25 if framing == "crop" else 1.0)


async def test_an_image_of_the_largest_size_fits_every_slot(process: DecodeProcess) -> None:
    padded = [encoded_image(seed) for seed in range(SLOTS)]
    padded = [data + b"\0" * (LIMITS.bytes - len(data)) for data in padded]
    for decoded, data in zip(await decode(process, *padded), padded, strict=True):
        assert_same(decoded, data)


@pytest.mark.parametrize("how", ["ends", "takes too long"])
async def test_a_process_that_ends_or_takes_too_long_fails_its_request(
    process: DecodeProcess, how: str
) -> None:
    reply = process.decode([ImageToDecode(encoded_image())], 10.0 if how == "ends" else 0.0)
    if how == "ends":
        process.process.kill()
    with pytest.raises(WorkerDiedError):
        async with asyncio.timeout(5):
            await reply


async def test_closing_a_process_kills_it_and_fails_its_request() -> None:
    process = DecodeProcess(PREPROCESSING, LIMITS, SLOTS)
    await process.ready
    reply = process.decode([ImageToDecode(encoded_image())], 10.0)
    process.close()
    with pytest.raises(WorkerDiedError):
        await reply
    assert process.process.poll() is not None


async def test_messages_come_out_as_they_went_in() -> None:
    images = [RequestedImage(None, 0), RequestedImage("crop", 8 * 2**20), RequestedImage("pad", 1)]
    assert unpack_request(pack_request(images)) == images
    replies = [
        ImageCoverage(framing=None, image_share=1.0, ground=None, frames=1),
        "image: größer",
        ImageCoverage(framing="pad", image_share=0.1, ground=0xFFFFFF, frames=2**32 - 1),
        ImageCoverage(framing="crop", image_share=1 / 3, ground=0, frames=0),
    ]
    assert unpack_reply(pack_reply(replies)) == replies
