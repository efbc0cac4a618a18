"""Every image case, decoded by the bundle, by a worker of the server, and for training."""

from __future__ import annotations

import dataclasses
import math
import random
import time

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray
from PIL import Image

from bundle.ground import lay_on_ground
from bundle.image import ImageError, ImageLimits, decode_frame, decode_image
from bundle.image_formats import IMAGE_FORMATS
from bundle.preprocessor import ImagePixels, Preprocessor
from serving.core.errors import ServingError
from serving.core.metrics import Metrics
from serving.image_decoding.pool import DecodePool
from tests.cases import damaged_images, images
from tests.cases.images import ImageCase
from training.loading.stream import random_crop
from training.model.pixels import preprocessing

CASES = (*images.CASES, *damaged_images.CASES)
SHOWN = tuple(case for case in CASES if case.shows is not None)
REFUSED = tuple(case for case in CASES if case.refused)

LIMITS = ImageLimits()
PREPROCESSING = preprocessing(32)

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),  # of damaged EXIF
]


class WholeImage(random.Random):
    """The training view that crops nothing."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(0)
        self._draws = iter((1.0, math.log(width / height)))

    def uniform(self, a: float, b: float) -> float:
        """First the share of the area, then the aspect."""
        return next(self._draws)


def visible(image: Image.Image) -> NDArray[np.int64]:
    """The levels, without the colours that a transparent pixel hides."""
    return np.asarray(image.convert("RGBa") if image.mode == "RGBA" else image, np.int64)


def cases(table: tuple[ImageCase, ...]) -> list[object]:
    return [pytest.param(c, id=c.name, marks=pytest.mark.kind(c.kind)) for c in table]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def by_worker() -> dict[str, ImagePixels | ServingError]:
    """What a worker of the server answers to every case."""
    pool = DecodePool(
        PREPROCESSING, LIMITS, workers=1, seconds=30, metrics=Metrics(), slots=len(CASES)
    )
    await pool.start()
    try:
        answers = await pool.decode_many([case.data for case in CASES])
    finally:
        await pool.close()
    return {case.name: answer for case, answer in zip(CASES, answers, strict=True)}


@pytest.mark.parametrize("case", cases(SHOWN))
async def test_an_image_has_the_same_pixels_in_the_bundle_a_worker_and_training(
    case: ImageCase, by_worker: dict[str, ImagePixels | ServingError]
) -> None:
    assert case.shows is not None
    image = decode_image(case.data, LIMITS)
    assert (image.mode, image.size) == (case.shows.mode, case.shows.size)
    difference = np.abs(visible(image) - visible(case.shows))
    assert difference.mean() <= case.levels
    prepare = Preprocessor(PREPROCESSING)
    pixels, coverage = prepare.decode(case.data, LIMITS)
    assert coverage.image_share == pytest.approx(case.share, abs=0.02)
    assert coverage == dataclasses.replace(case.coverage, image_share=coverage.image_share)
    served = by_worker[case.name]
    assert isinstance(served, ImagePixels)
    np.testing.assert_array_equal(served.pixels, pixels)
    assert served.coverage == coverage
    squash = Preprocessor(dataclasses.replace(PREPROCESSING, resize="squash"))
    trained = random_crop(image, PREPROCESSING.size, WholeImage(*image.size))
    np.testing.assert_allclose(trained, squash.decode(case.data, LIMITS).pixels, atol=1e-6)


@pytest.mark.parametrize("case", cases(REFUSED))
async def test_an_image_that_is_refused_is_refused_everywhere_for_the_same_reason(
    case: ImageCase, by_worker: dict[str, ImagePixels | ServingError]
) -> None:
    seconds = []
    for _ in range(3):  # the best of three: the garbage of other tests is collected at any time
        started = time.thread_time()
        with pytest.raises(ImageError) as raised:
            decode_image(case.data, LIMITS)
        seconds.append(time.thread_time() - started)
        assert str(raised.value) == case.refused
    if case.milliseconds is not None:
        assert 1000 * min(seconds) < case.milliseconds
    served = by_worker[case.name]
    assert isinstance(served, ServingError)
    assert served.message == "image: " + case.refused.removeprefix("image: ")


@pytest.mark.parametrize("case", cases(CASES))
async def test_a_jpeg_that_is_decoded_smaller_shows_and_is_refused_the_same(
    case: ImageCase,
) -> None:
    for factor, size in ((2, 6), (4, 3), (8, 1)):
        prepare = Preprocessor(dataclasses.replace(PREPROCESSING, size=size, std=(1, 1, 1)))
        assert (prepare.reduction(48, 80), prepare.reduction(80, 48)) == (factor, factor)
        if case.refused:
            with pytest.raises(ImageError) as raised:
                prepare.decode(case.data, LIMITS)
            assert str(raised.value) == case.refused
            continue
        reduced = prepare.decode(case.data, LIMITS)
        whole = prepare.prepare(decode_frame(case.data, LIMITS))
        assert reduced.coverage == whole.coverage
        if _is(case, "JPEG"):
            assert 255 * np.abs(reduced.pixels - whole.pixels).mean() < 4
        else:
            np.testing.assert_array_equal(reduced.pixels, whole.pixels)


@pytest.mark.kind("K2")
async def test_every_format_that_is_decoded_has_cases() -> None:
    shown = {form.name for form in IMAGE_FORMATS for case in SHOWN if _is(case, form.name)}
    assert shown == {form.name for form in IMAGE_FORMATS if form.decoded}


def _is(case: ImageCase, name: str) -> bool:
    from bundle.image_formats import sniff

    form = sniff(case.data)
    return form is not None and form.name == name


@pytest.mark.kind("K5")
async def test_padding_reads_all_of_a_wide_image_and_has_the_colour_of_its_border() -> None:
    [case] = [case for case in CASES if case.name == "wide"]
    prepare = Preprocessor(PREPROCESSING)
    pixels, coverage = prepare.decode(case.data, LIMITS, "pad")
    assert (coverage.framing, coverage.image_share) == ("pad", 1.0)
    white = prepare(case.shows.resize((1, 1)).point(lambda _: 255))  # type: ignore[union-attr]
    np.testing.assert_array_equal(pixels[:, :10], white[:, :10])
    assert not np.array_equal(pixels[:, 12:20, :8], white[:, 12:20, :8])
    cropped = prepare.decode(case.data, LIMITS, "crop").pixels
    np.testing.assert_array_equal(cropped, prepare.decode(case.data, LIMITS).pixels)


@pytest.mark.kind("K5")
async def test_a_white_icon_is_seen_and_a_blank_image_is_not() -> None:
    by_name = {case.name: case for case in CASES}
    prepare = Preprocessor(PREPROCESSING)
    pixels = prepare.decode(by_name["white icon"].data, LIMITS).pixels
    assert np.ptp(pixels) > 1
    nothing = by_name["white icon"].shows
    assert nothing is not None
    nothing = nothing.copy()
    nothing.putalpha(0)
    opaque, ground = lay_on_ground(nothing, (255, 255, 255))
    assert (opaque.getextrema(), ground) == (((255, 255),) * 3, 0xFFFFFF)
