"""Rows as a person sees them: where they came from, and the image or the text itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from bundle.image import ImageError, ImageLimits, decode_image
from serving.export.inputs.base import Content, Input, InputEntry, InputError, Unread
from serving.export.reader import Shards
from serving.export.verify import Watch

SIDE = 96
"""Pixels of a thumbnail's longer side."""
LENGTH = 240
"""Characters of a text."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A row."""

    id: str
    source: str
    image: str = ""
    """A small WebP as a data URI."""
    text: str = ""
    problem: str = ""
    """Why there is neither; empty as well when no input was given."""


def examples_of(
    shards: Shards, rows: Sequence[int], source: Input | None, watch: Watch
) -> dict[int, Example]:
    """Rows by their numbers, read back from the export's input where that is given. Raises
    InputError for an input of another kind."""
    entries = _entries(shards, sorted(set(rows)), watch)
    if source is None:
        return {row: Example(id=e.id, source=e.source) for row, e in entries.items()}
    contents = _contents(source, list(entries.values()))
    numbers = list(entries)
    return {
        number: _example(entries[number], content)
        for number, content in zip(watch(numbers, "reading examples"), contents, strict=True)
    }


def _entries(shards: Shards, rows: list[int], watch: Watch) -> dict[int, InputEntry]:
    """What rows (ascending) are of; only the shards that hold some are read."""
    wanted = np.array(rows, np.int64)
    found: dict[int, InputEntry] = {}
    start = 0
    for receipt in watch(shards.receipts, "finding examples"):
        end = start + receipt.rows
        if np.searchsorted(wanted, start) < np.searchsorted(wanted, end):
            for batch in shards.batches(receipt, ["id", "source"]):
                low, high = np.searchsorted(wanted, (start, start + batch.num_rows))
                numbers = wanted[low:high]
                taken = batch.take(numbers - start)
                ids, sources = taken["id"].to_pylist(), taken["source"].to_pylist()
                for number, id, source in zip(numbers.tolist(), ids, sources, strict=True):
                    found[number] = InputEntry(id, source, "")
                start += batch.num_rows
        start = end
    return found


def _contents(source: Input, entries: list[InputEntry]) -> Iterator[Content]:
    try:
        yield from source.read(entries)
    except (ValueError, IndexError):  # it does not write sources in this way, or has fewer rows
        raise InputError("--input: not what the export was made from") from None


def _example(entry: InputEntry, content: Content) -> Example:
    if isinstance(content, Unread):
        return Example(id=entry.id, source=entry.source, problem=content.reason)
    if isinstance(content, str):
        text = content if len(content) <= LENGTH else f"{content[:LENGTH]}…"
        return Example(id=entry.id, source=entry.source, text=text)
    try:
        return Example(id=entry.id, source=entry.source, image=thumbnail(content))
    except ImageError as error:
        return Example(id=entry.id, source=entry.source, problem=str(error))


def thumbnail(data: bytes) -> str:
    """An encoded image as a data URI of a small one. Raises ImageError."""
    image = decode_image(data, ImageLimits())
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
