"""A table file as groups of rows, each of which is read alone: row groups of Parquet, record
batches of Arrow."""

from __future__ import annotations

import bisect
import itertools
from typing import Any, Protocol

import pyarrow
import pyarrow.parquet as parquet
from pyarrow import ipc

from serving.export.inputs.base import InputError
from serving.storage.location import Place


class Groups(Protocol):
    """An open table file."""

    @property
    def schema(self) -> Any:
        """pyarrow.Schema."""

    @property
    def starts(self) -> list[int]:
        """Number of the first row of each group, and behind the last the number of rows."""

    def column(self, group: int, name: str) -> Any:
        """A column of a group as pyarrow.ChunkedArray or Array."""


class ParquetGroups:
    """See Groups."""

    def __init__(self, place: Place) -> None:
        self._file = parquet.ParquetFile(place.fs.open(place.path, "rb"))
        self.schema = self._file.schema_arrow
        metadata = self._file.metadata
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self.starts = [0, *itertools.accumulate(sizes)]

    def column(self, group: int, name: str) -> Any:
        """See Groups.column."""
        # A thread of Arrow's that frees a buffer of Python's at exit aborts the process.
        return self._file.read_row_group(group, columns=[name], use_threads=False).column(0)


class ArrowGroups:
    """See Groups."""

    def __init__(self, place: Place) -> None:
        local = pyarrow.memory_map(place.path) if place.local else place.fs.open(place.path, "rb")
        self._file = ipc.open_file(local)
        self.schema = self._file.schema
        sizes = (self._file.get_batch(i).num_rows for i in range(self._file.num_record_batches))
        self.starts = [0, *itertools.accumulate(sizes)]

    def column(self, group: int, name: str) -> Any:
        """See Groups.column."""
        return self._file.get_batch(group).column(name)


def open_groups(place: Place) -> Groups:
    """Opens a file by its name. Raises InputError."""
    try:
        with place.told():
            return ParquetGroups(place) if place.path.endswith(".parquet") else ArrowGroups(place)
    except (pyarrow.ArrowInvalid, OSError):
        raise InputError(f"{place.name}: not a table") from None


def group_of(groups: Groups, row: int) -> tuple[int, int]:
    """The group of a row, and the row's number in it."""
    group = bisect.bisect_right(groups.starts, row) - 1
    return group, row - groups.starts[group]
