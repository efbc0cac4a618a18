"""Lists of pairs: CSV, TSV or JSONL files of paths and captions, also as a folder's metadata."""

from __future__ import annotations

import codecs
import csv
import json
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TextIO

from training.data.data_recipe import DataError
from training.loading.sources import _reasons
from training.loading.sources._columns import CAPTIONS, PATHS, choose
from training.loading.sources._files import FileList, ListedFile, inside, walk
from training.loading.sources._names import METADATA_NAMES, is_metadata
from training.loading.sources.base import BadPairError, Columns

MAX_CELL = 2**20
"""Characters of a cell of a CSV file; the library's own bound would end the reading."""

MAX_LINE = 2**22
"""Characters of a line; no more of it is read."""


_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""How a file of UTF-16 begins, as some spreadsheets write it: no row of it would be read."""


class ListedPairs(FileList):
    """The pairs that lists name. Paths are relative to their list's folder, and stay inside."""

    @classmethod
    def open(cls, path: Path, columns: Columns) -> Self:
        """See PairSource.open. The path is a list, or a folder that holds lists named metadata."""
        if not path.is_dir():
            return cls(path.parent, list(_entries(path, "", columns)))
        names = list(walk(path))
        lists = [name for name in names if is_metadata(name)]
        if not lists:
            raise DataError(f"data.path: {path.name} holds none of {', '.join(METADATA_NAMES)}")
        entries = [
            entry
            for name in lists
            for entry in _entries(path / name, posixpath.dirname(name), columns)
        ]
        read = {*lists, *(posixpath.normpath(entry.path) for entry in entries)}
        return cls(path, entries, sorted(set(names) - read))


def _entries(file: Path, folder: str, columns: Columns) -> Iterator[ListedFile]:
    """The rows of a list. `folder` is where it is, relative to the source's folder."""
    if not file.is_file():
        raise DataError(f"data.path: {file.name} is not a file")
    chosen: tuple[str, str] | None = None
    unfit: DataError | None = None
    for line, names, row in _rows(file):
        key = f"{posixpath.join(folder, file.name)}:{line}"
        if isinstance(row, BadPairError):
            yield ListedFile(key, "", row)
            continue
        try:
            # A first line of JSONL that is odd costs itself, and not the list.
            chosen = chosen or _chosen(names, columns, file.name)
        except DataError as error:
            unfit = unfit or error
            yield ListedFile(key, "", BadPairError(_reasons.OTHER_COLUMNS))
            continue
        path, captions = (row.get(column) for column in chosen)
        try:
            inside(Path(), path)
        except BadPairError as reason:
            yield ListedFile(key, "", reason)
            continue
        path = posixpath.join(folder, str(path).strip())
        yield ListedFile(f"{key} {path}", path, captions)
    if chosen is None and unfit is not None:
        raise unfit


def _chosen(names: Sequence[str], columns: Columns, file: str) -> tuple[str, str]:
    """The columns of paths and of captions. Raises DataError."""
    return (
        choose(names, columns.image, PATHS, "data.image_column", file),
        choose(names, columns.caption, CAPTIONS, "data.caption_column", file),
    )


Row = dict[str, Any] | BadPairError


def _rows(file: Path) -> Iterator[tuple[str, Sequence[str], Row]]:
    """The numbers of each row's lines, the names of its columns, and it as a dictionary."""
    with file.open("rb") as head:
        if head.read(2) in _UTF16:
            raise DataError(f"data.path: {file.name} is UTF-16; save it as UTF-8")
    # Text that is not UTF-8 costs its own row: it becomes surrogates, which no caption may hold.
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        lines = _bounded_lines(text)
        if file.suffix.lower() == ".jsonl":
            yield from _json_rows(lines)
        else:
            yield from _csv_rows(lines, file)


def _bounded_lines(text: TextIO) -> Iterator[str]:
    """Lines, of which those that are too long are cut: then they are no rows."""
    while line := text.readline(MAX_LINE):
        yield line
        while line and not line.endswith(("\n", "\r")):
            line = text.readline(MAX_LINE)


def _json_rows(lines: Iterable[str]) -> Iterator[tuple[str, Sequence[str], Row]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            yield f"{number}", (), BadPairError(_reasons.NOT_JSON)
            continue
        if isinstance(row, dict):
            yield f"{number}", list(row), row
        else:
            yield f"{number}", (), BadPairError(_reasons.NOT_AN_OBJECT)


def _csv_rows(lines: Iterable[str], file: Path) -> Iterator[tuple[str, Sequence[str], Row]]:
    csv.field_size_limit(MAX_CELL)
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    # Strict, or a quote that is not closed would make one caption of all lines behind it.
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        first = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield _lines(first, reader.line_num), (), BadPairError(_reasons.NOT_CSV)
            continue
        if not cells:
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            if len(cells) != 2 or not os.path.isfile(file.parent / cells[0]):
                continue
            header = ["file_name", "text"]  # no header: the first row is a pair
        if len(cells) != len(header):
            reason = f"the row has {len(cells)} cells, the header {len(header)}"
            yield _lines(first, reader.line_num), (), BadPairError(reason)
        else:
            # An empty cell is how CSV writes a missing value.
            yield (
                _lines(first, reader.line_num),
                header,
                {k: c or None for k, c in zip(header, cells, strict=True)},
            )


def _lines(first: int, last: int) -> str:
    """The lines of a row. A quote that is not closed makes one row of many lines."""
    return f"{first}" if first >= last else f"{first}-{last}"
