"""Rows as a person sees them: where they come from, and the image or the text itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from bundle.image import ImageError, ImageLimits, decode_image
from serving.export.export_reader import ExportReader
from serving.export.inputs.base import Content, Input, InputEntry, InputError, Unreadable
from serving.export.verify_export import TrackProgress

THUMBNAIL_SIDE = 96
"""Pixels of a thumbnail's longer side."""
MAX_CHARACTERS = 240
"""A longer text is cut."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A row that is shown."""

    id: str
    source: str
    image: str = ""
    """A small WebP as a data URI."""
    text: str = ""
    problem: str = ""
    """Why there is neither an image nor a text; empty when no input was given."""


def load_examples(
    export: ExportReader, rows: Sequence[int], source: Input | None, track: TrackProgress
) -> dict[int, Example]:
    """Examples by the numbers of their rows, with their images or texts as the export's input has
    them now, if it is given. Raises InputError for an input of another kind."""
    entries = _entries(export, sorted(set(rows)), track)
    if source is None:
        return {row: Example(id=e.id, source=e.source) for row, e in entries.items()}
    contents = _contents(source, list(entries.values()))
    numbers = list(entries)
    return {
        number: _example(entries[number], content)
        for number, content in zip(track(numbers, "reading examples"), contents, strict=True)
    }


def _entries(export: ExportReader, rows: list[int], track: TrackProgress) -> dict[int, InputEntry]:
    """The entries of rows (ascending). Only the shards that hold some of them are read."""
    numbers = np.array(rows, np.int64)
    entries: dict[int, InputEntry] = {}
    start = 0
    for receipt in track(export.receipts, "finding examples"):
        end = start + export.rows_of(receipt)
        if np.searchsorted(numbers, start) < np.searchsorted(numbers, end):
            for batch in export.batches(receipt, ["id", "source"]):
                low, high = np.searchsorted(numbers, (start, start + batch.num_rows))
                inside = numbers[low:high]
                table = batch.take(inside - start)
                ids, sources = table["id"].to_pylist(), table["source"].to_pylist()
                for number, id, source in zip(inside.tolist(), ids, sources, strict=True):
                    entries[number] = InputEntry(id, source, "")
                start += batch.num_rows
        start = end
    return entries


def _contents(source: Input, entries: list[InputEntry]) -> Iterator[Content]:
    try:
        yield from source.read(entries)
    except (ValueError, IndexError):  # the input writes sources in another way, or has fewer rows
        raise InputError("--input: not what the export was made from") from None


def _example(entry: InputEntry, content: Content) -> Example:
    if isinstance(content, Unreadable):
        return Example(id=entry.id, source=entry.source, problem=content.reason)
    if isinstance(content, str):
        is_long = len(content) > MAX_CHARACTERS
        text = f"{content[:MAX_CHARACTERS]}…" if is_long else content
        return Example(id=entry.id, source=entry.source, text=text)
    try:
        return Example(id=entry.id, source=entry.source, image=thumbnail(content))
    except ImageError as error:
        return Example(id=entry.id, source=entry.source, problem=str(error))


def thumbnail(data: bytes) -> str:
    """An encoded image as a data URI of a small one. Raises ImageError."""
    image = decode_image(data, ImageLimits())
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
