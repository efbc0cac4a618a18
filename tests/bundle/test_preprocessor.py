"""Images to pixels, beside open_clip's own transform."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from bundle.image import ImageLimits, decode_frame
from bundle.manifest import Framing, Preprocessing
from bundle.preprocessor import MIN_REDUCED, Preprocessor
from tests.bundle.encoded_images import encode, exif, noise, smooth

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

Resize = Literal["shortest_crop", "squash", "longest_pad"]
OPEN_CLIP: dict[Resize, str] = {
    "shortest_crop": "shortest",
    "squash": "squash",
    "longest_pad": "longest",
}
SIZES = [
    (32, 32),
    (64, 64),
    (33, 32),
    (32, 65),
    (31, 31),
    (1, 1),
    (1, 90),
    (90, 1),
    (2, 3),
    (500, 375),
    (375, 501),
    (97, 640),
    (1000, 33),
    (7, 5),
    (16, 256),
    (257, 16),
]


def ours(size: int, resize: Resize, interpolation: Any) -> Preprocessor:
    return Preprocessor(
        Preprocessing(size=size, mean=MEAN, std=STD, resize=resize, interpolation=interpolation)
    )


def theirs(size: int, resize: Resize, interpolation: Any) -> Any:
    from training.core.torchvision_compat import open_clip

    open_clip()
    from open_clip.transform import image_transform

    return image_transform(
        size,
        is_train=False,
        mean=MEAN,
        std=STD,
        resize_mode=OPEN_CLIP[resize],
        interpolation=interpolation,
    )


def levels(pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    """Normalised pixels back to the range of bytes."""
    shape = (3, 1, 1)
    return 255 * (pixels.astype(float) * np.reshape(STD, shape) + np.reshape(MEAN, shape))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize", OPEN_CLIP)
@pytest.mark.parametrize("side", [32, 63])
def test_pixels_equal_open_clips(side: int, resize: Resize, interpolation: str) -> None:
    mine, reference = ours(side, resize, interpolation), theirs(side, resize, interpolation)
    for width, height in SIZES:
        if resize == "longest_pad" and max(width, height) > 2 * side * min(width, height):
            continue  # open_clip fails: the shorter side becomes 0
        # Pillow 13 resizes the columns of some tall images first: hard edges then look otherwise.
        wide = height <= width <= 16 * height
        for image in (smooth(width, height), *([noise(width, height)] if wide else [])):
            pixels = mine(image)
            assert pixels.shape == (3, side, side)
            assert pixels.dtype == np.float32
            assert pixels.flags["C_CONTIGUOUS"]
            difference = np.abs(levels(pixels) - levels(reference(image).numpy()))
            assert difference.max() < 2.001, (width, height)
            assert (difference > 1.001).mean() < 2e-4, (width, height)


@pytest.mark.parametrize("mode", ["L", "CMYK", "1"])
def test_other_opaque_modes_equal_their_rgb(mode: str) -> None:
    image = smooth(50, 40).convert(mode)
    mine = ours(32, "shortest_crop", "bicubic")
    assert np.array_equal(mine(image), mine(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_opaque_alpha_changes_nothing(mode: str) -> None:
    image = smooth(50, 40).convert("L").convert("RGB")
    mine = ours(32, "shortest_crop", "bicubic")
    with_alpha = image.convert("LA" if mode == "PA" else mode).convert(mode)
    assert np.array_equal(mine(with_alpha), mine(with_alpha.convert("RGB")))


def test_alpha_is_laid_over_the_background() -> None:
    preprocessing = Preprocessing(size=4, mean=MEAN, std=STD, background=(10, 20, 30))
    image = Image.new("RGBA", (8, 8), (200, 100, 50, 0))
    image.paste((200, 100, 50, 255), (0, 0, 8, 4))
    pixels = levels(Preprocessor(preprocessing)(image))
    assert np.allclose(pixels[:, 0, 0], (200, 100, 50), atol=25)  # the cubic overshoots
    assert np.allclose(pixels[:, -1, 0], (10, 20, 30), atol=25)
    clear = Preprocessor(preprocessing)(Image.new("RGBA", (3, 3), (255, 0, 0, 0)))
    assert np.allclose(levels(clear)[:, 1, 1], (10, 20, 30), atol=0.01)


@pytest.mark.parametrize("resize", OPEN_CLIP)
@pytest.mark.parametrize("size", [(1, 16_384), (16_384, 1), (1, 1)])
def test_thin_images_cost_what_others_do(resize: Resize, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (200, 100, 50))
    pixels = levels(ours(224, resize, "bicubic")(image))
    assert pixels.shape == (3, 224, 224)
    assert np.allclose(pixels[:, 111, 111], (200, 100, 50), atol=0.01)


SIDES = st.integers(1, 20_000)


@given(SIDES, SIDES, st.integers(1, 600), st.sampled_from(sorted(OPEN_CLIP)), st.booleans())
def test_a_reduced_image_keeps_more_than_twice_the_side_that_the_model_reads(
    width: int, height: int, size: int, resize: Resize, other_framing: bool
) -> None:
    prepare = ours(size, resize, "bicubic")
    framing = prepare.preprocessing.framings[1] if other_framing and resize != "squash" else None
    factor = prepare.reduction(width, height, framing)
    assert factor == prepare.reduction(height, width, framing)  # as EXIF may turn it
    padded = framing == "pad" or (resize == "longest_pad" and framing is None)
    side = max(width, height) if padded else min(width, height)
    assert factor in (1, 2, 4, 8)
    assert factor == 1 or side / factor / size >= MIN_REDUCED >= 2
    assert factor == 8 or side / (2 * factor) / size < MIN_REDUCED  # no more pixels than are needed


@pytest.mark.parametrize("framing", ["crop", "pad"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("side", [(523, 389), (521, 386), (385, 6401)])
def test_a_reduced_image_shows_the_same_at_the_same_place(
    side: tuple[int, int], orientation: int, framing: Framing
) -> None:
    data = encode(smooth(*side), "JPEG", quality=95, exif=exif(orientation))
    prepare = ours(24, "shortest_crop", "bicubic")
    frame = decode_frame(data, ImageLimits(), lambda *_: 8)
    assert max(frame.image.size) < max(side) / 4 + 1
    reduced = prepare.prepare(frame, framing)
    whole = prepare.prepare(decode_frame(data, ImageLimits()), framing)
    assert reduced.coverage == whole.coverage
    difference = np.abs(levels(reduced.pixels) - levels(whole.pixels))
    assert difference.max() < 2.5


def test_pixels_are_written_where_they_are_asked_for() -> None:
    prepare = ours(32, "shortest_crop", "bicubic")
    slots = np.zeros((2, 3, 32, 32), np.float32)
    data = encode(noise(50, 40), "PNG")
    decoded = prepare.decode(data, ImageLimits(), out=slots[1])
    assert decoded.pixels.base is slots or np.shares_memory(decoded.pixels, slots)
    np.testing.assert_array_equal(slots[1], prepare.decode(data, ImageLimits()).pixels)
    assert not slots[0].any()
