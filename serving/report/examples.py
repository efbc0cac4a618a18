"""Rows as a person sees them: where they come from, and the image or the text itself."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from bundle.image import ImageError, ImageLimits, decode_image
from serving.export.export_reader import ExportReader
from serving.export.inputs.base import (
    CHANGED,
    Content,
    Input,
    InputEntry,
    InputError,
    Unreadable,
)
from serving.export.verify_export import TrackProgress
from serving.storage.local_tree import NOT_FOUND

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
    """Examples by the numbers of their rows, with their images or texts if the export's input is
    given. What is not there as it was exported is not shown. Raises InputError for an input of
    which that holds for every example, and ExportError for a plan that cannot be read."""
    entries = _entries(export, sorted(set(rows)), track)
    if source is None:
        return {row: Example(id=e.id, source=e.source) for row, e in entries.items()}
    contents = _contents(source, list(entries.values()))
    numbers = list(entries)
    examples = {
        number: _example(entries[number], content)
        for number, content in zip(track(numbers, "reading examples"), contents, strict=True)
    }
    _refuse_other_input(examples.values())
    return examples


def not_shown(examples: Iterable[Example]) -> str:
    """How many examples are not shown, and why; empty when all are."""
    problems = [example.problem for example in examples]
    counts = Counter(filter(None, problems))
    if not counts:
        return ""
    reasons = ", ".join(f"{reason}: {count:,}" for reason, count in counts.most_common())
    return f"{counts.total():,} of {len(problems):,} examples are not shown ({reasons})"


def _refuse_other_input(examples: Collection[Example]) -> None:
    """Raises InputError when no example is there as it was exported."""
    told = not_shown(examples)
    if told and all(example.problem in (CHANGED, NOT_FOUND) for example in examples):
        raise InputError(
            f"--input: not what the export was made from: {told}. "
            "A copy must have the times of change of its original"
        )


def _entries(export: ExportReader, rows: list[int], track: TrackProgress) -> dict[int, InputEntry]:
    """The entries of rows (ascending) as they were exported. Only the shards that hold some of them
    are read."""
    numbers = np.array(rows, np.int64)
    entries: dict[int, InputEntry] = {}
    start = 0
    for receipt in track(export.receipts, "finding examples"):
        end = start + export.rows_of(receipt)
        if np.searchsorted(numbers, start) < np.searchsorted(numbers, end):
            planned = {entry.id: entry for entry in export.generations.shard(receipt.shard).entries}
            for batch in export.batches(receipt, ["id"]):
                low, high = np.searchsorted(numbers, (start, start + batch.num_rows))
                inside = numbers[low:high]
                ids = batch.take(inside - start)["id"].to_pylist()
                entries |= {n: planned[id] for n, id in zip(inside.tolist(), ids, strict=True)}
                start += batch.num_rows
        start = end
    return entries


def _contents(source: Input, entries: list[InputEntry]) -> Iterator[Content]:
    try:
        yield from source.read(entries)
    except ValueError:  # the input writes sources in another way
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
