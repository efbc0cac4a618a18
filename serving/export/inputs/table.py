"""Tables: a column of encoded images, or of texts, in Parquet or Arrow files."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import pyarrow
from pyarrow import types

from serving.export.inputs._row_groups import RowGroups, group_of, open_groups
from serving.export.inputs.base import (
    TABLE_SUFFIXES,
    UNREADABLE,
    Content,
    InputEntry,
    InputError,
    LeftOut,
    Modality,
    Unreadable,
)
from serving.storage.location import Location

EMPTY = "no value"
CACHED_GROUPS = 4
"""Files that stay open, and groups of rows that stay in memory: entries of one group follow each
other, and cost one read."""


class Table:
    """Rows of a column. An entry's id is its file and row, or what the column `id_column` holds."""

    has_columns: ClassVar[bool] = True

    def __init__(self, location: Location, column: str, id_column: str) -> None:
        """Raises InputError naming the column that is missing or of a type that is not exported."""
        self._folder, self.files = location.files(TABLE_SUFFIXES)
        self._column, self._id = column, id_column
        self._lock = threading.Lock()
        self._cached_file = functools.lru_cache(CACHED_GROUPS)(self._open)
        self._cached_column = functools.lru_cache(CACHED_GROUPS)(self._read_column)
        if not self.files:
            raise InputError(f"{location.name}: no {', '.join(TABLE_SUFFIXES)} file in this folder")
        self.modality: Modality = self._modality(self._open(next(iter(self.files))).schema)

    @classmethod
    def open(cls, location: Location, column: str = "", id_column: str = "") -> Self:
        """See Input.open. The location is a table, or a folder that holds some."""
        if not column:
            raise InputError("column: name the column that holds the images or the texts")
        return cls(location, column, id_column)

    def entries(self, left_out: LeftOut) -> Iterator[InputEntry]:
        """See Input.entries."""
        for file, fingerprint in self.files.items():
            data = self._open(file)
            if self._modality(data.schema) != self.modality:
                raise InputError(f"{file}: column {self._column} is of another type")
            for group, (start, end) in enumerate(itertools.pairwise(data.starts)):
                ids = data.column(group, self._id).to_pylist() if self._id else None
                for row in range(start, end):
                    source = f"{file}:{row}"
                    id = str(ids[row - start]) if ids else source
                    yield InputEntry(id, source, fingerprint)

    def read(self, entries: Sequence[InputEntry]) -> Iterator[Content]:
        """See Input.read."""
        for entry in entries:
            file, _, row = entry.source.rpartition(":")
            yield self._value(file, int(row))

    def _value(self, file: str, row: int) -> Content:
        try:
            # One thread at a time, so that a group that several threads want is read once.
            with self._lock, self._folder.translate_errors():
                group, row_in_group = group_of(self._cached_file(file), row)
                column = self._cached_column(file, group)
            return _content(column[row_in_group].as_py())
        except (pyarrow.ArrowException, OSError):
            return Unreadable(UNREADABLE)

    def _read_column(self, file: str, group: int) -> Any:
        return self._cached_file(file).column(group, self._column)

    def _open(self, file: str) -> RowGroups:
        groups = open_groups(self._folder.at(file))
        for column in filter(None, (self._column, self._id)):
            if column not in groups.schema.names:
                names = ", ".join(groups.schema.names)
                raise InputError(f"{file}: has no column {column}; it has {names}")
        return groups

    def _modality(self, schema: Any) -> Modality:
        kind = schema.field(self._column).type
        if types.is_string(kind) or types.is_large_string(kind):
            return "text"
        if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        if types.is_binary(kind) or types.is_large_binary(kind):
            return "image"
        raise InputError(f"column {self._column}: neither encoded images nor texts, but {kind}")


def _content(value: Any) -> Content:
    if isinstance(value, dict):  # Hugging Face's Image feature: bytes and a path
        value = value["bytes"]
    return Unreadable(EMPTY) if value is None else value
