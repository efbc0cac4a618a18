"""Images that are cut, that claim more pixels than they hold, or that have a format which is not
decoded; and whole ones that come close to them."""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.bundle.encoded_images import (
    GREY,
    RGB,
    chunk,
    encode,
    huge_jpeg,
    huge_png,
    huge_webp,
    noise,
    png,
)
from tests.cases.images import SHARE, UPRIGHT, ImageCase, file_of

CORRUPT = "image: truncated or corrupt"
END = b"\xff\xd9"


def _cut() -> Iterator[ImageCase]:
    """Files that end too soon: taken if all pixels are there, refused if any are missing."""
    busy = Image.composite(UPRIGHT, noise(80, 48), Image.new("L", (80, 48), 128))
    jpeg, progressive = file_of(busy, "JPEG"), file_of(busy, "JPEG", progressive=True)
    files = {form: file_of(busy, form) for form in ("PNG", "WEBP", "BMP")}
    files |= {"JPEG": jpeg, "progressive JPEG": progressive, "GIF": encode(busy, "GIF")}
    whole: dict[str, tuple[bytes, str]] = {
        "JPEG without end marker": (jpeg[:-2], "JPEG"),
        "JPEG without end marker, then a disk's zeros": (jpeg[:-2] + bytes(512), "JPEG"),
        "JPEG with half an end marker": (jpeg[:-1], "JPEG"),
        "JPEG with bytes after its end": (jpeg + b"\0video\xff\xd9" * 9, "JPEG"),
        "progressive JPEG without end marker": (progressive[:-2], "progressive JPEG"),
        "PNG without IEND": (files["PNG"][:-12], "PNG"),
        "PNG with half an IEND": (files["PNG"][:-5], "PNG"),
        "PNG without the last checksum": (files["PNG"][:-16], "PNG"),
        "GIF without its end": (files["GIF"][:-1], "GIF"),
    }
    for name, (data, form) in whole.items():
        with Image.open(io.BytesIO(files[form])) as image:
            shows = image.convert("RGB")
        yield ImageCase(
            name=name, kind="K7", make=functools.partial(bytes, data), shows=shows, share=SHARE
        )
    missing = {
        f"{form}, {part} of 8": data[: len(data) * part // 8]
        for form, data in files.items()
        for part in (1, 4, 7)
    }
    for form in ("JPEG", "progressive JPEG"):
        half = files[form][: len(files[form]) // 2]
        missing[f"{form}, half and zeros"] = half + bytes(len(half))
    missing["JPEG, half and an end marker"] = jpeg[: len(jpeg) // 2] + END
    missing["JPEG, without its last bytes"] = jpeg[:-60]
    at = files["PNG"].index(b"IDAT") - 4
    missing["PNG without pixels"] = files["PNG"][:at] + chunk(b"IEND", b"")
    for name, data in missing.items():
        yield ImageCase(name=name, kind="K7", make=functools.partial(bytes, data), refused=CORRUPT)


def _claim(form: str, side: int) -> bytes:
    """A small file whose header says that it has side x side pixels."""
    if form == "JPEG":
        return huge_jpeg(side, side)
    if form == "progressive JPEG":
        data = bytearray(encode(noise(16, 16), "JPEG", progressive=True))
        at = data.index(b"\xff\xc2")
        data[at + 5 : at + 9] = struct.pack(">HH", side, side)
    elif form == "PNG":
        return huge_png(side, side)
    elif form == "WEBP":
        return huge_webp(side, side)
    elif form == "VP8":
        data = bytearray(encode(noise(16, 16), "WEBP"))
        data[26:30] = struct.pack("<HH", side & 0x3FFF, side & 0x3FFF)
    elif form == "BMP":
        data = bytearray(encode(noise(16, 16), "BMP"))
        data[18:26] = struct.pack("<ii", side, side)
    else:
        data = bytearray(encode(noise(16, 16), "GIF"))
        at = 6 if form == "GIF" else 13 + (3 << (data[10] & 7) + 1) + 5
        data[at : at + 4] = struct.pack("<HH", side, side)
    return bytes(data)


def _claims() -> Iterator[ImageCase]:
    # WebP has no bound by its bytes: a file of one colour has 1,432 for 6,000 x 6,000.
    for form in ("JPEG", "progressive JPEG", "PNG", "BMP", "GIF", "GIF frame", "WEBP", "VP8"):
        bounded = form not in ("WEBP", "VP8")
        yield ImageCase(
            name=f"{form} that claims 6000 x 6000", kind="K4", refused=CORRUPT,
            make=functools.partial(_claim, form, 6000), milliseconds=5 if bounded else None,
        )  # fmt: skip
    for form in ("JPEG", "PNG", "BMP", "GIF", "GIF frame", "WEBP"):
        side = 65_535 if form not in ("WEBP",) else 20_000
        yield ImageCase(
            name=f"{form} that claims {side} x {side}", kind="K4", milliseconds=5,
            make=functools.partial(_claim, form, side),
            refused=f"image: {side} x {side} pixels is over the limit of 16384 per side",
        )  # fmt: skip
    for colour, channels in ((RGB, 3), (GREY, 1)):
        yield ImageCase(
            name=f"PNG of {channels} channels with one row of 16", kind="K7", refused=CORRUPT,
            make=functools.partial(
                png, 16, 16, depth=8, colour=colour, rows=[b"\0" * 16 * channels]
            ),
        )  # fmt: skip
    canvas = Image.new("RGB", (9, 5), (0x5B, 0xA7, 0x13))
    yield ImageCase(
        name="PNG of the canvas's colour", kind="K7", shows=canvas, share=5 / 9,
        make=functools.partial(encode, canvas, "PNG"),
    )  # fmt: skip
    screen = encode(noise(8, 8, "L"), "GIF")
    empty = b"\x21\xfe" + b"\x01x" * 70_000 + b"\0"
    yield ImageCase(
        name="GIF with 70,000 comments", kind="K4", refused=CORRUPT, milliseconds=200,
        make=lambda: screen[:13] + bytes(3 << (screen[10] & 7) + 1) + empty + screen[13:],
    )  # fmt: skip


def _unsupported() -> Iterator[ImageCase]:
    rle = bytearray(encode(UPRIGHT.quantize(16), "BMP"))
    rle[30:34] = struct.pack("<I", 1)
    for name, data in {
        ": TIFF": encode(UPRIGHT, "TIFF"),
        ": ICO": encode(UPRIGHT, "ICO"),
        ": PNM": encode(UPRIGHT, "PPM"),
        ": AVIF": b"\0\0\0\x20ftypavif\0\0\0\0",
        ": HEIC": b"\0\0\0\x18ftypheic\0\0\0\0",
        ": JPEG XL": b"\xff\x0a\xfa\x1f",
        ": JPEG 2000": b"\xff\x4f\xff\x51\0\0",
        ": SVG": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
        ": PDF": b"%PDF-1.7\n",
        ": PSD": b"8BPS\0\1",
        ": BMP with run-length coding": bytes(rle),
        "": b"<!DOCTYPE html><html></html>",
    }.items():
        yield ImageCase(
            name=f"unsupported{name}", kind="K2", make=functools.partial(bytes, data),
            refused=f"unsupported image{name}",
        )  # fmt: skip
    yield ImageCase(
        name="a PNG that is grey of 16 bits and 3 x 2", kind="K7", share=2 / 3,
        make=lambda: png(3, 2, depth=16, colour=GREY, rows=[b"\x10\0" * 3, b"\xf0\xff" * 3]),
        shows=Image.fromarray(np.repeat([[16], [240]], 3, 1).astype(np.uint8)).convert("RGB"),
    )  # fmt: skip


CASES = tuple(case for cases in (_cut, _claims, _unsupported) for case in cases())
"""Either shown or refused."""
