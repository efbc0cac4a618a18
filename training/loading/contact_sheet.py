"""A page that shows some data: examples, images that look alike, and what is bad."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
from PIL import Image

from bundle.ground import lay_on_ground
from bundle.image import ImageLimits, decode_image
from training.loading.inspection import DataReport, SplitReport
from training.loading.pair_data import PairData
from training.loading.sources.base import Pair, printable

EXAMPLES_SHOWN = 40
"""Pairs of each split, from all over it."""

THUMBNAIL = 128
"""The longer side of an image on the page, in pixels."""

MAX_CAPTION = 160
"""Characters of a caption that are shown."""

Place = tuple[str, str, str]
"""The split, the piece and the key of a pair."""

_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; color: #222; background: #fff }
.row { display: flex; flex-wrap: wrap; gap: 12px; margin: 0 0 1.5em }
figure { margin: 0; width: 140px } img { max-width: 128px; background: #eee }
figcaption { font-size: 12px; overflow-wrap: anywhere } small { color: #777 }
"""


def contact_sheet(data: PairData, report: DataReport) -> str:
    """The page as HTML, which needs no other file. The images that it shows are read again.

    Raises DataError.
    """
    examples = {split.split: _examples(split) for split in report.splits}
    wanted = {place for places in examples.values() for place in places}
    wanted |= {place for group in report.look_alikes for place in group.keys}
    pairs = _read(data, wanted)
    title = escape(f"{data.name}, {data.kind}")
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>",
    ]
    for split in report.splits:
        parts.append(
            f"<h2>{escape(split.split)}: {split.good:,} good pairs, {split.bad:,} bad</h2>"
        )
        parts.append(_row(pairs, examples[split.split]))
        if split.bad_pairs:
            lines = (f"<li>{escape(key)}: {escape(why)}</li>" for key, why in split.bad_pairs)
            parts.append(f"<h3>bad pairs</h3><ul>{''.join(lines)}</ul>")
    if report.look_alikes:
        parts.append("<h2>images that look alike</h2>")
    for group in report.look_alikes:
        parts.append(f"<p>{group.number:,} images</p>{_row(pairs, group.keys)}")
    return "\n".join([*parts, "</body></html>\n"])


def _examples(split: SplitReport) -> list[Place]:
    places = np.linspace(0, len(split.keys) - 1, EXAMPLES_SHOWN).round().astype(int).tolist()
    return [(split.split, *split.keys[i]) for i in sorted(set(places))] if split.keys else []


def _read(data: PairData, wanted: Iterable[Place]) -> dict[Place, Pair]:
    """The pairs at some places."""
    by_piece: dict[tuple[str, str], set[str]] = defaultdict(set)
    for split, piece, key in wanted:
        by_piece[split, piece].add(key)
    pairs = {}
    for (split, piece), keys in sorted(by_piece.items()):
        for found in data.split(split).read(piece):
            if isinstance(found, Pair) and found.key in keys:
                pairs[split, piece, found.key] = found
                keys.remove(found.key)
            if not keys:
                break
    return pairs


def _row(pairs: Mapping[Place, Pair], places: Sequence[Place]) -> str:
    figures = [_figure(pairs[place]) for place in places if place in pairs]
    return f'<div class="row">{"".join(figures)}</div>'


def _figure(pair: Pair) -> str:
    caption = " | ".join(pair.captions)
    if len(caption) > MAX_CAPTION:
        caption = f"{caption[: MAX_CAPTION - 3]}..."
    image, _ = lay_on_ground(decode_image(pair.image, ImageLimits()), (255, 255, 255))
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=80)
    source = base64.b64encode(data.getvalue()).decode()
    return (
        f'<figure><img alt="" src="data:image/jpeg;base64,{source}">'
        f"<figcaption>{escape(printable(caption))}<br><small>{escape(pair.key)}</small>"
        "</figcaption></figure>"
    )
