"""Drawings out of the packages of icon sets, and their rendering to square RGBA PNGs."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from training.data.data_recipe import DataError, PackageSpec, SetSpec
from training.data.emoji import TONE as TONE_NAME
from training.data.emoji import EmojiTable, codepoint_key, flag_codepoint, has_skin_tone
from training.data.paint import paint


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One drawing of a set, not yet rendered."""

    set: str
    name: str
    source: str
    """Where it came from: `npm:package@version/set/name`."""
    licence: str
    codepoint: str | None
    category: str | None
    content: bytes = field(repr=False)
    """SVG text, or an encoded bitmap."""
    caption: str | None = None
    """A caption the drawing itself carries."""
    keywords: tuple[str, ...] = ()
    trim: bool = False
    """Whether the empty page around the drawing is cut away."""


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A drawing left out before rendering, and why."""

    set: str
    name: str
    reason: str


def iconify_file(set_name: str) -> str:
    """The member of `@iconify/json` that holds a set."""
    return f"json/{set_name}.json"


def iconify_names(raw: bytes) -> dict[str, str]:
    """Icon name -> codepoint, for the sets that carry the codepoints."""
    return {name: code for code, name in json.loads(raw).get("chars", {}).items()}


def read_iconify(
    set_name: str, spec: SetSpec, package: PackageSpec, raw: bytes, table: EmojiTable
) -> Iterator[Drawing | Dropped]:
    """The visible icons of one `@iconify/json` set that `spec.only` chooses.

    Raises DataError when the set's own licence is not the one the recipe states.
    """
    data = json.loads(raw)
    licence = data["info"]["license"].get("spdx", "")
    if licence != spec.licence:
        raise DataError(f"set {set_name}: recipe says {spec.licence}, its metadata {licence}")
    codes: dict[str, str] = {}
    for code, name in data.get("chars", {}).items():
        codes.setdefault(name, codepoint_key(code))
    categories = {n: c for c, names in data.get("categories", {}).items() for n in names}
    for name, icon in data["icons"].items():
        if icon.get("hidden") or not re.search(spec.only, name):
            continue
        codepoint = None
        if spec.kind not in ("icon", "mono"):
            match = match_emoji(name, spec, codes.get(name), table)
            if not match.codepoint:
                yield Dropped(set=set_name, name=name, reason=match.reason)
                continue
            codepoint = match.codepoint
        body, box = icon["body"], [icon.get(k, data.get(k, d)) for k, d in _BOX.items()]
        if spec.kind == "mono":
            body, box = paint(body, box, f"{set_name}/{name}")
        yield Drawing(
            set=set_name,
            name=name,
            source=f"{package.label}/{set_name}/{name}",
            licence=licence,
            codepoint=codepoint,
            category=categories.get(name),
            content=svg(body, box).encode(),
        )


_BOX = {"left": 0, "top": 0, "width": 16, "height": 16}


@dataclass(frozen=True, kw_only=True)
class EmojiMatch:
    """The emoji a drawing shows, or the reason there is none."""

    codepoint: str = ""
    reason: str = ""


def match_emoji(name: str, spec: SetSpec, code: str | None, table: EmojiTable) -> EmojiMatch:
    """The emoji of an icon, by its codepoint, its ISO country code, or its name."""
    if spec.kind == "flag":
        for pattern in spec.strip:
            name = re.sub(pattern, "", name)
        emoji = table.get(flag_codepoint(name))
        return EmojiMatch(codepoint=emoji.codepoint) if emoji else EmojiMatch(reason="no country")
    if (code and has_skin_tone(code)) or (not code and TONE_NAME.search(name)):
        return EmojiMatch(reason="skin tone")
    emoji = table.get(code) if code else None
    emoji = emoji or table.find(name)
    return EmojiMatch(codepoint=emoji.codepoint) if emoji else EmojiMatch(reason="no codepoint")


def svg(body: str, box: list[float]) -> str:
    """A whole SVG document around an icon's body."""
    left, top, width, height = box
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{width}" height="{height}" viewBox="{left} {top} {width} {height}">{body}</svg>'
    )


def read_codepoint_images(
    set_name: str,
    spec: SetSpec,
    package: PackageSpec,
    files: Mapping[str, bytes],
    table: EmojiTable,
) -> Iterator[Drawing | Dropped]:
    """Bitmaps whose file names are codepoints (`1f34e.webp`)."""
    for path, content in sorted(files.items()):
        name = path.rsplit("/", 1)[-1].split(".", 1)[0]
        if has_skin_tone(codepoint_key(name)):
            yield Dropped(set=set_name, name=name, reason="skin tone")
            continue
        emoji = table.get(name)
        if emoji is None:
            yield Dropped(set=set_name, name=name, reason="no codepoint")
            continue
        yield Drawing(
            set=set_name,
            name=name,
            source=f"{package.label}/{path}",
            licence=spec.licence,
            codepoint=emoji.codepoint,
            category=None,
            content=content,
        )


def render(content: bytes, px: int, *, trim: bool = False) -> bytes:
    """A `px` x `px` RGBA PNG of an SVG or bitmap, aspect kept, centred, transparency kept.

    Raises ValueError when the drawing cannot be rendered or comes out empty.
    """
    from PIL import Image

    vector = content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    # A trimmed drawing may fill a corner of its page: render it large enough to be cut out.
    png = rasterise(content.decode("utf-8-sig"), 4 * px if trim else px) if vector else content
    with Image.open(io.BytesIO(png)) as opened:
        image = opened if opened.mode == "RGBA" else opened.convert("RGBA")
        box = image.getchannel("A").getbbox()
        if box is None:
            raise ValueError("empty drawing")
        if vector and image.size == (px, px):
            return png
        if trim:
            image = image.crop(box)
        if max(image.size) != px:
            scale = px / max(image.size)
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            # Colours of fully transparent pixels must not bleed in: resize premultiplied.
            image = image.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
        square = Image.new("RGBA", (px, px))
        square.paste(image, ((px - image.width) // 2, (px - image.height) // 2))
    buffer = io.BytesIO()
    square.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def rasterise(text: str, px: int) -> bytes:
    """A PNG of an SVG document whose longer side is about `px`."""
    import resvg_py

    head = text[: text.find(">", text.find("<svg")) + 1]
    sides = [re.search(rf'\s{side}="([\d.]+)', head) for side in ("width", "height")]
    tall = sides[0] and sides[1] and float(sides[1][1]) > float(sides[0][1])
    # Fonts would make the result depend on the machine; no drawing here needs one.
    # Lengths in points or millimetres have no size without a resolution.
    return resvg_py.svg_to_bytes(
        svg_string=text,
        skip_system_fonts=True,
        dpi=96.0,
        width=None if tall else px,
        height=px if tall else None,
    )
