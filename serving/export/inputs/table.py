"""Tables: a column of encoded pictures, or of texts, in Parquet or Arrow files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from serving.export.inputs.base import Content, Entry, InputError, Modality, Unread
from serving.export.place import Place

SUFFIXES = (".parquet", ".arrow", ".feather")
EMPTY = "no value"
ROWS = 256
"""Rows that are read together, so that a picture's neighbours in a row group cost one read."""


class Table:
    """Rows of a column; an entry's id is its file and row, or what the column `id_column` says."""

    def __init__(self, place: Place, column: str, id_column: str = "") -> None:
        """`place` is a file, or a folder that holds some. Raises InputError naming the column."""
        self._folder = place if place.is_folder() else place.parent
        self._files = (
            [path for path, _ in place.walk() if path.endswith(SUFFIXES)]
            if place.is_folder()
            else [place.name]
        )
        self._column, self._id = column, id_column
        if not self._files:
            raise InputError(f"{place.name}: no {', '.join(SUFFIXES)} file in this folder")
        self.modality: Modality = self._modality(self._open(self._files[0]))

    def entries(self) -> Iterator[Entry]:
        """See Input.entries."""
        for file in self._files:
            data, stamp = self._open(file), self._folder.at(file).stamp()
            if self._modality(data) != self.modality:
                raise InputError(f"{file}: column {self._column} is of another type")
            row = 0
            columns = [self._id] if self._id else []
            for batch in data.to_batches(columns=columns, batch_size=65536):
                ids = batch.column(0).to_pylist() if self._id else None
                for place in range(batch.num_rows):
                    source = f"{file}:{row}"
                    yield Entry(str(ids[place]) if ids else source, source, stamp)
                    row += 1

    def read(self, entries: Sequence[Entry]) -> Iterator[Content]:
        """See Input.read."""
        at = [entry.source.rpartition(":") for entry in entries]
        for start in range(0, len(at), ROWS):
            part = at[start : start + ROWS]
            values: dict[tuple[str, int], Any] = {}
            for file in dict.fromkeys(file for file, _, _ in part):
                rows = [int(row) for name, _, row in part if name == file]
                taken = self._open(file).take(rows, columns=[self._column])
                values |= zip(((file, r) for r in rows), taken.column(0).to_pylist(), strict=True)
            yield from (_content(values[file, int(row)]) for file, _, row in part)

    def _open(self, file: str) -> Any:
        import pyarrow
        from pyarrow import dataset

        place = self._folder.at(file)
        form = "parquet" if file.endswith(".parquet") else "feather"
        try:
            found = dataset.dataset(place.path, filesystem=place.fs, format=form)
        except (pyarrow.ArrowInvalid, OSError):
            raise InputError(f"{file}: not a table") from None
        for column in filter(None, (self._column, self._id)):
            if column not in found.schema.names:
                names = ", ".join(found.schema.names)
                raise InputError(f"{file}: has no column {column}; it has {names}")
        return found

    def _modality(self, data: Any) -> Modality:
        from pyarrow import types

        kind = data.schema.field(self._column).type
        if types.is_string(kind) or types.is_large_string(kind):
            return "text"
        if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        if types.is_binary(kind) or types.is_large_binary(kind):
            return "image"
        raise InputError(f"column {self._column}: neither encoded pictures nor texts, but {kind}")


def _content(value: Any) -> Content:
    if isinstance(value, dict):  # Hugging Face's Image feature: bytes and a path
        value = value["bytes"]
    return Unread(EMPTY) if value is None else value
