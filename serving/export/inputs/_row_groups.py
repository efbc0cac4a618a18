"""A table file as groups of rows that are read one at a time: row groups of Parquet, record batches
of Arrow."""

from __future__ import annotations

import bisect
import itertools
from typing import Any, Protocol

import pyarrow
import pyarrow.parquet as parquet
from pyarrow import ipc

from serving.export.inputs.base import InputError
from serving.storage.location import Location


class RowGroups(Protocol):
    """An open table file, whose groups of rows are numbered from 0."""

    @property
    def schema(self) -> Any:
        """The pyarrow.Schema of the whole file."""

    @property
    def starts(self) -> list[int]:
        """The number of the first row of each group, and last the number of all rows."""

    def column(self, group: int, name: str) -> Any:
        """A column of a group as pyarrow.ChunkedArray or Array."""


class ParquetRowGroups:
    """See RowGroups."""

    def __init__(self, file: Location) -> None:
        self._file = parquet.ParquetFile(file.fs.open(file.path, "rb"))
        self.schema = self._file.schema_arrow
        metadata = self._file.metadata
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self.starts = [0, *itertools.accumulate(sizes)]

    def column(self, group: int, name: str) -> Any:
        """See RowGroups.column."""
        # A thread of Arrow's that frees a buffer of Python's at exit aborts the process.
        return self._file.read_row_group(group, columns=[name], use_threads=False).column(0)


class ArrowRowGroups:
    """See RowGroups."""

    def __init__(self, file: Location) -> None:
        is_local = file.is_local
        stream = pyarrow.memory_map(file.path) if is_local else file.fs.open(file.path, "rb")
        self._file = ipc.open_file(stream)
        self.schema = self._file.schema
        sizes = (self._file.get_batch(i).num_rows for i in range(self._file.num_record_batches))
        self.starts = [0, *itertools.accumulate(sizes)]

    def column(self, group: int, name: str) -> Any:
        """See RowGroups.column."""
        return self._file.get_batch(group).column(name)


def open_groups(file: Location) -> RowGroups:
    """Opens a file in the format that its suffix names. Raises InputError or LocationError."""
    try:
        with file.translate_errors():
            is_parquet = file.path.endswith(".parquet")
            return ParquetRowGroups(file) if is_parquet else ArrowRowGroups(file)
    except (pyarrow.ArrowInvalid, OSError):
        raise InputError(f"{file.name}: not a table") from None


def group_of(groups: RowGroups, row: int) -> tuple[int, int]:
    """The group of a row, and the row's number in it."""
    group = bisect.bisect_right(groups.starts, row) - 1
    return group, row - groups.starts[group]
