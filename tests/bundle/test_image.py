"""Bytes to images: faults F-10, F-11, F-13 and F-14."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from PIL import Image, ImageOps

from bundle.image import ImageError, ImageLimits, decode_image
from tests.bundle.encoded_images import (
    GREY,
    PALETTE,
    RGB,
    RGB_ALPHA,
    chunk,
    encode,
    exif,
    noise,
    png,
    smooth,
)

LIMITS = ImageLimits()
FORMATS = ("JPEG", "PNG", "WEBP")


def pixels(image: Image.Image) -> list[object]:
    """All pixels, row by row."""
    return list(image.get_flattened_data())


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_decodes(kind: str) -> None:
    image = decode_image(encode(smooth(40, 30), kind), LIMITS)
    assert (image.mode, image.size) == ("RGB", (40, 30))
    difference = np.abs(np.asarray(image, int) - np.asarray(smooth(40, 30), int))
    assert difference.mean() < (0.001 if kind == "PNG" else 6)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<!DOCTYPE html><html></html>",
        b"https://example.org/cat.png",
        b"file:///etc/hostname",
        b"\x8aPNG\r\n\x1a\n" + encode(noise(4, 4), "PNG")[8:],
        b"RIFF\x04\0\0\0WAVE",
    ],
)
def test_other_bytes_are_unsupported(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"^unsupported image$"):
        decode_image(data, LIMITS)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("SVG", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
        ("SVG", b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- drawn -->\n<svg>'),
        ("PDF", b"%PDF-1.7\n"),
        ("FITS", b"SIMPLE  =                    T" + b" " * 3000),
        ("AVIF", b"\0\0\0\x20ftypavif\0\0\0\0"),
        ("HEIC", b"\0\0\0\x18ftypheic\0\0\0\0"),
        ("JPEG XL", b"\xff\x0a\xfa\x1f"),
        *((name, encode(noise(4, 4), name)) for name in ("TIFF", "ICO")),
        ("PNM", encode(noise(4, 4), "PPM")),
    ],
)
def test_known_formats_that_are_not_decoded_are_named(name: str, data: bytes) -> None:
    with pytest.raises(ImageError, match=rf"^unsupported image: {name}$"):
        decode_image(data, LIMITS)


def test_a_format_behind_another_ones_magic_is_corrupt() -> None:
    for data in (
        b"\x89PNG\r\n\x1a\n" + encode(noise(4, 4), "JPEG"),
        b"\xff\xd8\xff" + encode(noise(4, 4), "TIFF"),
        b"RIFF\xff\0\0\0WEBP" + encode(noise(40, 40), "GIF"),
    ):
        with pytest.raises(ImageError, match=r"^image: truncated or corrupt$"):
            decode_image(data, LIMITS)


@pytest.mark.parametrize("kind", FORMATS)
def test_truncation(kind: str) -> None:
    data = encode(noise(64, 48), kind)
    for stop in (*range(3, 40), len(data) // 4, len(data) // 2, len(data) * 3 // 4):
        with pytest.raises(ImageError, match="unsupported image|truncated or corrupt"):
            decode_image(data[:stop], LIMITS)


def test_every_flipped_bit_of_a_png_is_seen() -> None:
    data = encode(noise(6, 5), "PNG")
    for at in range(8, len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1
        with pytest.raises(ImageError):
            decode_image(bytes(flipped), LIMITS)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of a damaged EXIF block
@pytest.mark.parametrize("kind", FORMATS)
def test_damage_is_an_image_error_or_a_image(kind: str) -> None:
    data = encode(noise(32, 24), kind, exif=exif(6))
    dice = random.Random(0)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(dice.randint(1, 6)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        try:
            image = decode_image(bytes(damaged), LIMITS)
        except ImageError:
            continue
        assert image.mode in ("RGB", "RGBA")


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_animations_give_the_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert set(pixels(decode_image(data, LIMITS).convert("RGB"))) == {(255, 0, 0)}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 9])
def test_exif_orientation(kind: str, orientation: int) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(smooth(12, 7), kind, exif=exif(orientation), **options)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    image = decode_image(data, LIMITS)
    assert image.size == ((7, 12) if 5 <= orientation <= 8 else (12, 7))
    assert pixels(image) == pixels(upright)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of a damaged EXIF block
def test_damaged_exif_leaves_the_image_as_it_is() -> None:
    good = exif(6).tobytes()
    for block in (good[:9], good[:18], b"Exif\0\0XX*\0", b"", b"Exif\0\0II*\0\xff\xff\xff\xff"):
        data = encode(smooth(12, 7), "JPEG", exif=block)
        assert decode_image(data, LIMITS).size == (12, 7)


def test_cmyk_jpeg() -> None:
    data = encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)
    image = decode_image(data, LIMITS)
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image, int) - (255, 0, 0)).max() <= 3


PNG_CASES: dict[str, tuple[bytes, list[object]]] = {
    "grey": (png(2, 1, depth=8, colour=GREY, rows=[b"\x10\xf0"]), [(16,) * 3, (240,) * 3]),
    "1 bit": (png(2, 1, depth=1, colour=GREY, rows=[b"\x40"]), [(0,) * 3, (255,) * 3]),
    "4 bits": (png(2, 1, depth=4, colour=GREY, rows=[b"\x1f"]), [(17,) * 3, (255,) * 3]),
    "16-bit grey": (
        png(2, 1, depth=16, colour=GREY, rows=[b"\x12\x34\xff\xff"]),
        [(0x12,) * 3, (255,) * 3],
    ),
    "16-bit grey, one transparent": (
        png(
            2,
            1,
            depth=16,
            colour=GREY,
            rows=[b"\x12\x34\xff\xff"],
            extra=chunk(b"tRNS", b"\x12\x34"),
        ),
        [(0x12, 0x12, 0x12, 0), (255, 255, 255, 255)],
    ),
    "16-bit RGB": (
        png(1, 1, depth=16, colour=RGB, rows=[b"\x12\x34\x56\x78\x9a\xbc"]),
        [(0x12, 0x56, 0x9A)],
    ),
    "16-bit RGBA": (
        png(1, 1, depth=16, colour=RGB_ALPHA, rows=[b"\x12\x34\x56\x78\x9a\xbc\x80\xff"]),
        [(0x12, 0x56, 0x9A, 0x80)],
    ),
    "grey and alpha": (png(1, 1, depth=8, colour=4, rows=[b"\x20\x40"]), [(32, 32, 32, 64)]),
    "palette": (
        png(2, 1, depth=8, colour=PALETTE, rows=[b"\0\1"], extra=chunk(b"PLTE", b"abcdef")),
        [(97, 98, 99), (100, 101, 102)],
    ),
    "palette and alpha": (
        png(
            2,
            1,
            depth=8,
            colour=PALETTE,
            rows=[b"\0\1"],
            extra=chunk(b"PLTE", b"abcdef") + chunk(b"tRNS", b"\x07"),
        ),
        [(97, 98, 99, 7), (100, 101, 102, 255)],
    ),
    "RGB, one transparent": (
        png(
            2,
            1,
            depth=8,
            colour=RGB,
            rows=[b"abcdef"],
            extra=chunk(b"tRNS", b"\0a\0b\0c"),
        ),
        [(97, 98, 99, 0), (100, 101, 102, 255)],
    ),
}


@pytest.mark.parametrize("case", PNG_CASES)
def test_golden_pixels(case: str) -> None:
    data, expected = PNG_CASES[case]
    image = decode_image(data, LIMITS)
    assert image.mode == ("RGB" if len(expected[0]) == 3 else "RGBA")  # type: ignore[arg-type]
    assert pixels(image) == expected


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (1, 16_384)])
@pytest.mark.parametrize("kind", FORMATS)
def test_thin_images(kind: str, size: tuple[int, int]) -> None:
    if kind == "WEBP" and max(size) > 16_383:
        pytest.skip("the format ends at 16,383")
    assert decode_image(encode(Image.new("RGB", size, "red"), kind), LIMITS).size == size
