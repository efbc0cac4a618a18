"""A table file as groups of rows that are read one at a time: row groups of Parquet, or parts of
large ones, and record batches of Arrow."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import pyarrow
import pyarrow.parquet as parquet
from pyarrow import ipc

from serving.export.inputs._arrow_stream import ArrowStreamGroups
from serving.export.inputs.base import InputError
from serving.storage.location import Location

MAX_GROUP_BYTES = 2**28
"""Bytes of a column that are read at once, unless one row has more. Writers make row groups of a
million rows, whatever these hold."""


class RowGroups(Protocol):
    """An open table file, whose groups of rows are numbered from 0."""

    @property
    def schema(self) -> Any:
        """The pyarrow.Schema of the whole file."""

    @property
    def starts(self) -> list[int]:
        """The number of the first row of each group, and last the number of all rows."""

    @property
    def problem(self) -> str:
        """What is wrong behind the last group; empty when nothing is."""

    def column(self, group: int, name: str) -> Any:
        """A column of a group as pyarrow.ChunkedArray or Array. Raises ArrowException or OSError
        where it is damaged."""


class _Part(NamedTuple):
    """Some rows of a row group."""

    row_group: int
    number: int
    """Of the part in its row group."""
    rows: int
    """Of each part of this row group but the last one."""


class ParquetRowGroups:
    """See RowGroups. A row group with too many bytes is read in parts, one after the other."""

    def __init__(self, stream: Any) -> None:
        self._file = parquet.ParquetFile(stream)
        self.schema, self.problem = self._file.schema_arrow, ""
        self._parts: list[_Part] = []
        sizes: list[int] = []
        for number in range(self._file.metadata.num_row_groups):
            rows = self._file.metadata.row_group(number).num_rows
            step = self._rows_of_a_part(number)
            self._parts += [_Part(number, part, step) for part in range(-(-rows // step))]
            sizes += [min(step, rows - first) for first in range(0, rows, step)]
        self.starts = [0, *itertools.accumulate(sizes)]
        self._reading: tuple[str, _Part, Iterator[Any]] | None = None

    def _rows_of_a_part(self, number: int) -> int:
        group = self._file.metadata.row_group(number)
        sizes = (group.column(i).total_uncompressed_size for i in range(group.num_columns))
        parts = -(-max(sizes, default=0) // MAX_GROUP_BYTES)
        rows: int = group.num_rows // max(1, parts)
        return max(1, rows)

    def column(self, group: int, name: str) -> Any:
        """See RowGroups.column."""
        part = self._parts[group]
        is_whole = self.starts[group + 1] - self.starts[group] == (
            self._file.metadata.row_group(part.row_group).num_rows
        )
        if is_whole:
            # A thread of Arrow's that frees a buffer of Python's at exit aborts the process.
            table = self._file.read_row_group(part.row_group, columns=[name], use_threads=False)
            return table.column(0)
        return self._read_part(part, name)

    def _read_part(self, part: _Part, name: str) -> Any:
        first, batches = 0, iter(list[Any]())
        if self._reading is not None:
            column, last, rest = self._reading
            if column == name and last.row_group == part.row_group and last.number < part.number:
                first, batches = last.number + 1, rest
        if not first:
            batches = self._file.iter_batches(
                part.rows, row_groups=[part.row_group], columns=[name], use_threads=False
            )
        self._reading = None  # an iterator that has failed does not go on
        batch: Any = next(itertools.islice(batches, part.number - first, None), None)
        if batch is None:
            raise OSError("fewer rows than the file says")
        self._reading = (name, part, batches)
        return batch.column(0)


class ArrowRowGroups:
    """See RowGroups."""

    def __init__(self, stream: Any) -> None:
        self._file = ipc.open_file(stream)
        self.schema, self.problem = self._file.schema, ""
        sizes = (self._file.get_batch(i).num_rows for i in range(self._file.num_record_batches))
        self.starts = [0, *itertools.accumulate(sizes)]

    def column(self, group: int, name: str) -> Any:
        """See RowGroups.column."""
        return self._file.get_batch(group).column(name)


def open_groups(file: Location) -> RowGroups:
    """Opens a file in the format that its first bytes tell. Raises InputError, FileNotFoundError,
    PermissionError or LocationError."""
    try:
        with file.translate_errors():
            magic = file.read(0, 6)
            if magic.startswith(b"PAR1"):
                return ParquetRowGroups(file.fs.open(file.path, "rb"))
            if file.is_local:
                stream = pyarrow.memory_map(file.path)
            else:
                stream = pyarrow.PythonFile(file.fs.open(file.path, "rb"), mode="r")
            return (ArrowRowGroups if magic == b"ARROW1" else ArrowStreamGroups)(stream)
    except (FileNotFoundError, PermissionError):
        raise
    except (pyarrow.ArrowException, OSError, EOFError):
        raise InputError("not a table") from None


def group_of(groups: RowGroups, row: int) -> tuple[int, int]:
    """The group of a row, and the row's number in it. Raises IndexError for a row that is not
    there."""
    if not 0 <= row < groups.starts[-1]:
        raise IndexError(row)
    group = bisect.bisect_right(groups.starts, row) - 1
    return group, row - groups.starts[group]
