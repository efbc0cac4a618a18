"""Encoded images, and what must become of each: the pixels it shows, or why it is refused. Those
that are damaged or of another format are in damaged_images.py.

A way in that takes images must pass all of them: `expected` is a PNG with the pixels that the case
shows, so that both have the same answer by that way.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from bundle.preprocessor import ImageCoverage
from tests.bundle.encoded_images import chunk, encode


@dataclass(frozen=True, kw_only=True)
class ImageCase:
    """One file. Either `shows` or `refused` is set."""

    name: str
    kind: str
    """The promise that it tests."""
    make: Callable[[], bytes]
    shows: Image.Image | None = None
    """The pixels that a reader sees: RGB, or RGBA where something is transparent."""
    levels: float = 0.0
    """How far the pixels may be from `shows`, in levels of 0 to 255 on average."""
    refused: str = ""
    """The error."""
    share: float = 1.0
    ground: int | None = None
    frames: int = 1
    milliseconds: float | None = None
    """A bound on the time until the error, for files that claim more than they hold."""

    @functools.cached_property
    def data(self) -> bytes:
        """The file."""
        return self.make()

    @property
    def expected(self) -> bytes:
        """A PNG with the pixels that the case shows."""
        assert self.shows is not None
        return encode(self.shows, "PNG")

    @property
    def coverage(self) -> ImageCoverage:
        """What a model that crops reads of it."""
        return ImageCoverage(
            framing="crop", image_share=self.share, ground=self.ground, frames=self.frames
        )


def upright(width: int = 80, height: int = 48) -> Image.Image:
    """A drawing without symmetry: every orientation of it is another image."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    w, h = width / 80, height / 48
    draw.polygon([(10 * w, 40 * h), (30 * w, 10 * h), (50 * w, 40 * h)], fill=(40, 90, 200))
    draw.rectangle((55 * w, 25 * h, 75 * w, 40 * h), fill=(200, 60, 40))
    return image


UPRIGHT = upright()
SHARE = 48 / 80

_TURN = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
"""The transposition (Pillow's number) that an orientation undoes."""


def turned(orientation: int) -> Image.Image:
    """The drawing as a camera stores it that writes this orientation."""
    method = _TURN.get(orientation)
    return UPRIGHT if method is None else UPRIGHT.transpose(Image.Transpose(method))


def exif_block(orientation: int, kind: int = 3, order: str = ">", tag: int = 0x0112) -> bytes:
    """EXIF of one tag, as the TIFF type `kind`: 1 BYTE, 3 SHORT, 4 LONG, 8 SSHORT, 9 SLONG."""
    code = {1: "B", 3: "H", 4: "I", 8: "h", 9: "i"}[kind]
    value = struct.pack(order + code, orientation).ljust(4, b"\0")
    start = b"MM\0*" if order == ">" else b"II*\0"
    entry = struct.pack(order + "HHI", tag, kind, 1) + value
    return b"Exif\0\0" + start + struct.pack(order + "IH", 8, 1) + entry + b"\0\0\0\0"


def xmp_block(orientation: int, *, element: bool = False) -> bytes:
    """XMP with the orientation as an attribute or as an element."""
    name = "tiff:Orientation"
    inside = f"><{name}>{orientation}</{name}></a>" if element else f' {name}="{orientation}"/>'
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a{inside}</x:xmpmeta>'.encode()


def _raw_profile(orientation: int) -> bytes:
    """A PNG with its EXIF as ImageMagick writes it."""
    block = exif_block(orientation)
    text = f"\nexif\n{len(block):8}\n{block.hex()}\n".encode()
    data = encode(turned(orientation), "PNG")
    return data[:33] + chunk(b"tEXt", b"Raw profile type exif\0" + text) + data[33:]


_LOSSLESS = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True, "exact": True},
}
_LOSS = {"JPEG": 2.0, "PNG": 0.0, "WEBP": 0.0}


def file_of(image: Image.Image, form: str, **options: object) -> bytes:
    """A file whose pixels are those of the image, or as near as its format can keep them."""
    return encode(image, form, **(_LOSSLESS.get(form, {}) | options))


def _png_with_xmp(image: Image.Image, xmp: bytes) -> bytes:
    data = encode(image, "PNG")
    return data[:33] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp) + data[33:]


def _orientations() -> Iterator[ImageCase]:
    def case(name: str, form: str, make: Callable[[], bytes], shows: Image.Image) -> ImageCase:
        share = min(shows.size) / max(shows.size)
        return ImageCase(
            name=f"{form}, {name}", kind="K7", make=make, shows=shows, levels=_LOSS[form],
            share=share,
        )  # fmt: skip

    for form in _LOSS:
        for n in (*range(1, 9), 0, 9):
            make = functools.partial(file_of, turned(n), form, exif=exif_block(n))
            yield case(f"EXIF {n}", form, make, UPRIGHT)
        for kind, order in ((4, ">"), (4, "<"), (3, "<"), (8, ">"), (9, "<")):
            make = functools.partial(file_of, turned(6), form, exif=exif_block(6, kind, order))
            yield case(f"EXIF 6 of type {kind} {order}", form, make, UPRIGHT)
        make = functools.partial(file_of, turned(6), form, exif=exif_block(6, 1))
        yield case("EXIF 6 as a BYTE is none", form, make, turned(6))
        for n, element in ((6, False), (3, True)):
            if form == "PNG":
                make = functools.partial(_png_with_xmp, turned(n), xmp_block(n, element=element))
            else:
                xmp = xmp_block(n, element=element)
                make = functools.partial(file_of, turned(n), form, xmp=xmp)
            yield case(f"XMP {n}", form, make, UPRIGHT)
    both = {"xmp": xmp_block(8)}
    make = functools.partial(file_of, turned(6), "JPEG", exif=exif_block(6), **both)
    yield case("EXIF 6 before XMP 8", "JPEG", make, UPRIGHT)
    other = exif_block(1, tag=0x011A)
    make = functools.partial(file_of, turned(8), "JPEG", exif=other, **both)
    yield case("EXIF without the tag, XMP 8", "JPEG", make, UPRIGHT)
    yield case("raw profile 6", "PNG", functools.partial(_raw_profile, 6), UPRIGHT)
    make = functools.partial(file_of, UPRIGHT, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    yield case("damaged EXIF", "JPEG", make, UPRIGHT)


def _mode_cases() -> Iterator[ImageCase]:
    grey, palette = UPRIGHT.convert("L"), UPRIGHT.quantize(16)
    wide16 = (np.asarray(grey).astype(np.uint16) << 8) | 0x7F
    clear = UPRIGHT.convert("RGBA")
    clear.putalpha(grey.point(lambda level: 0 if level > 250 else 255))
    grey_clear = clear.convert("LA")
    palette_clear = palette.copy()
    palette_clear.info["transparency"] = palette.getpixel((0, 0))
    flat = Image.new("RGB", (40, 40), (200, 60, 40))
    rows: list[tuple[str, Image.Image, Callable[[], bytes], float]] = [
        ("grey PNG", grey, lambda: encode(grey, "PNG"), 0),
        ("grey JPEG", grey, lambda: encode(grey, "JPEG", quality=95), 2),
        ("1-bit PNG", grey.convert("1"), lambda: encode(grey.convert("1"), "PNG"), 0),
        ("16-bit grey PNG", grey, lambda: encode(Image.fromarray(wide16), "PNG"), 0),
        ("CMYK JPEG", flat, lambda: encode(flat.convert("CMYK"), "JPEG", quality=98), 2),
        ("palette PNG", palette.convert("RGB"), lambda: encode(palette, "PNG"), 0),
        ("RGBA PNG", clear, lambda: encode(clear, "PNG"), 0),
        ("RGBA WebP", clear, lambda: file_of(clear, "WEBP"), 0),
        ("LA PNG", grey_clear.convert("RGBA"), lambda: encode(grey_clear, "PNG"), 0),
        (
            "palette and transparency PNG",
            palette_clear.convert("RGBA"),
            lambda: encode(palette, "PNG", transparency=palette.getpixel((0, 0))),
            0,
        ),
        ("GIF", palette.convert("RGB"), lambda: encode(palette, "GIF"), 0),
        (
            "GIF with transparency",
            palette_clear.convert("RGBA"),
            lambda: encode(palette, "GIF", transparency=palette.getpixel((0, 0))),
            0,
        ),
        ("BMP", UPRIGHT, lambda: encode(UPRIGHT, "BMP"), 0),
        ("palette BMP", palette.convert("RGB"), lambda: encode(palette, "BMP"), 0),
        ("1-bit BMP", grey.convert("1"), lambda: encode(grey.convert("1"), "BMP"), 0),
        ("BMP of 32 bits", clear.convert("RGB"), lambda: encode(clear, "BMP"), 0),
        ("progressive JPEG", UPRIGHT, lambda: file_of(UPRIGHT, "JPEG", progressive=True), 2),
        (
            "JPEG with restarts",
            UPRIGHT,
            lambda: file_of(UPRIGHT, "JPEG", restart_marker_blocks=2),
            2,
        ),
        ("lossy WebP", UPRIGHT, lambda: encode(UPRIGHT, "WEBP", quality=95), 4),
    ]
    for name, image, make, levels in rows:
        transparent = image.mode == "RGBA"
        shows = image if transparent else image.convert("RGB")
        yield ImageCase(
            name=name, kind="K7", make=make, shows=shows, levels=levels,
            share=min(shows.size) / max(shows.size), ground=0xFFFFFF if transparent else None,
        )  # fmt: skip


def _frames() -> Iterator[ImageCase]:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "lime", "blue")]
    for form in ("GIF", "PNG", "WEBP"):
        make = functools.partial(file_of, frames[0], form, save_all=True, append_images=frames[1:])
        yield ImageCase(
            name=f"animated {form}", kind="K5", make=make, shows=frames[0], frames=3
        )  # fmt: skip
    yield ImageCase(
        name="JPEG with a second image", kind="K5", shows=UPRIGHT, levels=5, share=SHARE,
        make=lambda: file_of(UPRIGHT, "MPO", save_all=True, append_images=[turned(6)]),
    )  # fmt: skip


def _seen() -> Iterator[ImageCase]:
    wide = Image.new("RGB", (512, 128), "white")
    wide.paste(UPRIGHT.resize((128, 128)), (0, 0))
    for name, image in (
        ("wide", wide),
        ("tall", wide.transpose(Image.Transpose.ROTATE_90)),
        ("1 x 1", Image.new("RGB", (1, 1), "red")),
        ("1 x 300", Image.new("RGB", (1, 300), "red")),
        ("300 x 1", Image.new("RGB", (300, 1), "red")),
    ):
        short, long = sorted(image.size)
        yield ImageCase(
            name=name, kind="K5", make=functools.partial(encode, image, "PNG"), shows=image,
            share=short / long,
        )  # fmt: skip
    disc = Image.new("L", (96, 96), 0)
    ImageDraw.Draw(disc).ellipse((24, 24, 72, 72), fill=255)
    for name, level, ground in (
        ("white icon", 255, 0x404040),
        ("nearly white icon", 240, 0x404040),
        ("grey icon", 230, 0xFFFFFF),
        ("black icon", 0, 0xFFFFFF),
    ):
        image = Image.merge("LA", (Image.new("L", disc.size, level), disc))
        yield ImageCase(
            name=name, kind="K5", make=functools.partial(encode, image, "PNG"),
            shows=image.convert("RGBA"), ground=ground,
        )  # fmt: skip
    for colour in ((0, 0, 0, 0), (255, 255, 255, 0), (255, 0, 0, 0)):
        hidden = Image.new("RGBA", (96, 96), colour)
        ImageDraw.Draw(hidden).ellipse((24, 24, 72, 72), fill=(220, 60, 40, 255))
        yield ImageCase(
            name=f"hidden colour {colour[:3]}", kind="K7", shows=hidden, ground=0xFFFFFF,
            make=functools.partial(encode, hidden, "PNG"),
        )  # fmt: skip


CASES = tuple(case for cases in (_orientations, _mode_cases, _frames, _seen) for case in cases())
"""All of them are shown."""
