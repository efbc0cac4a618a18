"""Pixels of PIL images and arrays: whole, upright, and no more of them than the model reads."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from bundle.image import ImageLimits, decode_image
from bundle.manifest import Preprocessing
from bundle.preprocessor import Preprocessor
from sparseclip._image_files import read_image
from sparseclip._image_pixels import encode_png
from sparseclip.errors import ItemError
from tests.sparseclip.test_convert import INFO

SIZE = 16
LARGE = replace(INFO, limits=replace(INFO.limits, image_bytes=2**20))
MODEL = replace(LARGE, image_size=SIZE, framings=("crop", "pad"), interpolation="bicubic")


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Noise, on which every pixel of a resize shows."""
    channels = len(mode)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> Image.Image:
    return decode_image(data, ImageLimits())


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_png_is_without_loss(mode: str) -> None:
    image = photo(7, 5, mode)
    pixels = np.asarray(image).reshape(5, 7, len(mode))
    with Image.open(io.BytesIO(encode_png(pixels))) as opened:
        assert opened.mode == mode
        np.testing.assert_array_equal(np.asarray(opened), np.asarray(image))


@pytest.mark.parametrize("framing", ["crop", "pad"])
@pytest.mark.parametrize("size", [(200, 120), (90, 310), (17, 16), (8, 40), (16, 16)])
@pytest.mark.parametrize("own", ["shortest_crop", "longest_pad", "squash"])
def test_the_model_reads_the_same_pixels_of_what_is_sent(
    own: Any, size: tuple[int, int], framing: Any
) -> None:
    preprocessing = Preprocessing(size=SIZE, mean=(0, 0, 0), std=(1, 1, 1), resize=own)
    offered = preprocessing.framings
    info = replace(MODEL, framings=offered)
    framing = framing if offered else None
    image = photo(size[0] // 8 + 2, size[1] // 8 + 2).resize(size)
    whole = Preprocessor(preprocessing).decode(encoded(image), ImageLimits(), framing)
    for given in (image, np.asarray(image)):
        sent = read_image(given, info, framing)
        read = Preprocessor(preprocessing).decode(sent, ImageLimits(), framing)
        # The client resizes by Pillow, and the server may do so by another package.
        assert (np.abs(read.pixels - whole.pixels) > 1.001 / 255).mean() < 0.01
        assert read.coverage.image_share == pytest.approx(whole.coverage.image_share, abs=0.02)
        width, height = decoded(sent).size
        if framing != "pad":
            assert min(width, height) <= SIZE
        else:
            assert max(width, height) <= SIZE or min(size) < SIZE


def test_a_large_photo_is_small_when_it_is_sent() -> None:
    sent = read_image(photo(2000, 1500), MODEL)
    assert decoded(sent).size == (21, 16)


def test_without_the_models_filter_nothing_is_resized() -> None:
    assert decoded(read_image(photo(40, 30), replace(MODEL, interpolation=None))).size == (40, 30)


def test_an_image_that_nobody_has_read_is_its_file(tmp_path: Path) -> None:
    for kind, options in (("PNG", {}), ("JPEG", {"quality": 90}), ("WEBP", {})):
        data = encoded(photo(64, 48), kind, **options)
        path = tmp_path / f"a.{kind.lower()}"
        path.write_bytes(data)
        for opened in (Image.open(path), Image.open(io.BytesIO(data))):
            assert read_image(opened, MODEL) == data
            assert read_image(opened, MODEL) == data  # it stays unread
            opened.load()  # and now it could have been changed
            assert read_image(opened, MODEL) != data


def _drawn(image: Image.Image) -> None:
    ImageDraw.Draw(image).rectangle((0, 0, 60, 40), fill="red")


CHANGES: dict[str, Any] = {
    "drawn upon": _drawn,
    "pasted into": lambda image: image.paste("red", (0, 0, 60, 40)),
    "a pixel": lambda image: image.putpixel((0, 0), (1, 2, 3)),
    "thumbnail": lambda image: image.thumbnail((20, 20)),
    "draft": lambda image: image.draft("L", (16, 16)),
    "draft of a mode": lambda image: image.draft("L", None),
    "transparent": lambda image: image.putalpha(7),
    "EXIF": lambda image: image.getexif().__setitem__(0x0112, 3),
    "info": lambda image: image.info.clear(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_image_is_not_its_file(change: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(photo(64, 48), "JPEG", exif=exif)
    image = Image.open(io.BytesIO(data))
    CHANGES[change](image)
    assert read_image(image, MODEL) != data


def test_a_closed_image_cannot_be_read() -> None:
    image = Image.open(io.BytesIO(encoded(photo(64, 48))))
    image.close()
    with pytest.raises(ItemError, match="image: cannot be read"):
        read_image(image, MODEL)


def test_another_frame_of_an_animation_is_sent_as_it_is() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    image = Image.open(
        io.BytesIO(
            encoded(frames[0], "WEBP", save_all=True, lossless=True, append_images=frames[1:])
        )
    )
    image.seek(1)
    sent = decoded(read_image(image, MODEL))
    assert sent.convert("RGB").getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_image_is_sent_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photo(24, 16), "PNG", exif=exif)
    image = Image.open(io.BytesIO(data))
    image.load()
    expected = np.asarray(decoded(data).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(decoded(read_image(image, LARGE))), expected)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "HSV", "RGBX"]
)
def test_every_mode_becomes_what_the_server_makes_of_it(mode: str) -> None:
    image = photo(9, 8, "RGBA")
    image = image if mode in ("RGBA", "LA") else image.convert("RGB")
    image = image.convert("P").convert(mode) if mode == "PA" else image.convert(mode)
    sent = decoded(read_image(image, LARGE))
    expected = image.convert("RGBA" if image.has_transparency_data else "RGB")
    np.testing.assert_array_equal(np.asarray(sent), np.asarray(expected))


def test_lab_is_read_as_its_colours() -> None:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    image = Image.new("RGB", (4, 4), (200, 40, 90))
    converted = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
    assert converted is not None
    sent = np.asarray(decoded(read_image(converted, LARGE)), dtype=int)
    assert np.abs(sent - (200, 40, 90)).max() <= 3


def test_grey_of_16_bits_keeps_the_upper_8() -> None:
    values = np.array([[0, 255, 256, 65_535]], dtype=np.uint16)
    for image in (Image.fromarray(values), Image.fromarray(values.astype(np.int32))):
        pixels = np.asarray(decoded(read_image(image, LARGE)))
        assert pixels[0, :, 0].tolist() == [0, 0, 1, 255]
    for refused in (
        Image.fromarray(np.array([[200]], dtype=np.int32)),
        Image.fromarray(np.array([[-1]], dtype=np.int32)),
        Image.fromarray(np.array([[70_000]], dtype=np.int32)),
        Image.new("F", (2, 2)),
    ):
        with pytest.raises(ItemError, match="convert it to L or RGB"):
            read_image(refused, LARGE)
