"""Tables: a column of encoded images, or of texts, in Parquet or Arrow files."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import pyarrow

from serving.export.inputs._cells import (
    NO_TEXT,
    content,
    id_text,
    is_list,
    list_lengths,
    modality_of,
)
from serving.export.inputs._container_files import ContainerFiles, file_entry
from serving.export.inputs._row_groups import RowGroups, group_of, open_groups
from serving.export.inputs._unique_ids import UniqueIds
from serving.export.inputs.base import (
    CHANGED,
    EMPTY,
    TABLE_NAMES,
    UNREADABLE,
    Content,
    InputEntry,
    InputError,
    LeftOut,
    Modality,
    Unreadable,
)
from serving.storage.file_tree import StoredFile
from serving.storage.local_tree import problem_of
from serving.storage.location import Location

CACHED_GROUPS = 4
"""Files that stay open, and groups of rows that stay in memory: entries of one group follow each
other, and cost one read."""
_DAMAGED = (pyarrow.ArrowException, OSError, EOFError)


class _ColumnError(InputError):
    """A table without the column that the user named."""


class Table:
    """Rows of a column. An entry's id is what the column `id_column` holds, or its file and row;
    an id that an earlier entry has gets `#2` behind it. A cell that is a list gives an entry for
    each of its items."""

    has_columns: ClassVar[bool] = True

    def __init__(self, found: ContainerFiles, column: str, id_column: str) -> None:
        """Raises InputError naming the column that is missing or of a type that is not exported,
        when no file has it."""
        self._found, self.files = found, found.fingerprints
        self._column, self._id = column, id_column
        self._lock = threading.Lock()
        self._cached_file = functools.lru_cache(CACHED_GROUPS)(self._open_checked)
        self._cached_column = functools.lru_cache(CACHED_GROUPS)(self._read_column)
        self.modality: Modality = self._first_modality()

    @classmethod
    def open(cls, location: Location, column: str = "", id_column: str = "") -> Self:
        """See Input.open. The location is a table, or a folder that holds some."""
        found = ContainerFiles.find(location, TABLE_NAMES)
        if not column:
            raise InputError(
                f"--column: name the column that holds the images or the texts{_columns(found)}"
            )
        return cls(found, column, id_column)

    def entries(self, left_out: LeftOut) -> Iterator[InputEntry]:
        """See Input.entries."""
        left_out.update(self._found.left_out)
        ids = UniqueIds()
        for file in self._found.files:
            whole = file_entry(file)
            if not whole.problem:
                try:
                    groups = self._open_checked(file.path)
                except InputError as error:
                    whole = whole._replace(problem=str(error))
                except OSError as error:
                    whole = whole._replace(problem=problem_of(error))
            if whole.problem:
                yield whole._replace(id=ids.claim(whole.id))
                continue
            for entry in self._rows(file, groups):
                yield entry._replace(id=ids.claim(entry.id))
            if groups.problem:
                problem = f"{groups.problem} after {groups.starts[-1]} rows"
                yield whole._replace(id=ids.claim(whole.id), problem=problem)

    def read(self, entries: Sequence[InputEntry]) -> Iterator[Content]:
        """See Input.read."""
        places = [_place(entry.source) for entry in entries]
        contents = [self._value(file, row, item) for file, row, item in places]
        problems = self._found.problems_now(
            (file, entry.fingerprint) for entry, (file, *_) in zip(entries, places, strict=True)
        )
        for value, (file, *_) in zip(contents, places, strict=True):
            yield Unreadable(problems[file]) if file in problems else value

    def _first_modality(self) -> Modality:
        problem = ""
        for file in self._found.files:
            if file_entry(file).problem:
                continue
            try:
                kind = self._open(file.path).schema.field(self._column).type
            except _ColumnError as error:
                problem = problem or f"{file.path}: {error}"
                continue
            except (InputError, OSError):  # it says nothing about the column that the user named
                continue
            if modality := modality_of(kind):
                return modality
            problem = f"column {self._column}: neither encoded images nor texts, but {kind}"
        if problem:
            raise InputError(problem)
        return "image"

    def _rows(self, file: StoredFile, groups: RowGroups) -> Iterator[InputEntry]:
        has_lists = is_list(groups.schema.field(self._column).type)
        for group, (start, end) in enumerate(itertools.pairwise(groups.starts)):
            ids, lengths, problem = [""] * (end - start), [1] * (end - start), ""
            try:
                if self._id:
                    ids = [id_text(x) for x in groups.column(group, self._id).to_pylist()]
                if has_lists:
                    lengths = list_lengths(groups.column(group, self._column))
            except _DAMAGED:
                problem = UNREADABLE
            for row, id, length in zip(range(start, end), ids, lengths, strict=True):
                source = f"{file.path}:{row}"
                entry = InputEntry(id or source, source, file.fingerprint, problem)
                if not has_lists or problem:
                    yield entry
                elif not length:
                    yield entry._replace(problem=NO_TEXT if self.modality == "text" else EMPTY)
                else:
                    for item in range(length):
                        yield entry._replace(id=f"{entry.id}.{item}", source=f"{source}.{item}")

    def _value(self, file: str, row: int, item: int | None) -> Content:
        try:
            # One thread at a time, so that a group that several threads want is read once.
            with self._lock, self._found.folder.translate_errors():
                group, row_in_group = group_of(self._cached_file(file), row)
                column = self._cached_column(file, group)
            return content(_item(column[row_in_group], item), self.modality)
        except InputError:
            return Unreadable(UNREADABLE)
        except IndexError:  # the file had other rows when it was listed
            return Unreadable(CHANGED)
        except OSError as error:
            return Unreadable(problem_of(error))
        except (pyarrow.ArrowException, EOFError):
            return Unreadable(UNREADABLE)

    def _read_column(self, file: str, group: int) -> Any:
        return self._cached_file(file).column(group, self._column)

    def _open_checked(self, file: str) -> RowGroups:
        """Opens a file whose column is as in the other files. Raises InputError or OSError."""
        groups = self._open(file)
        if modality_of(groups.schema.field(self._column).type) != self.modality:
            raise InputError(f"column {self._column} is of another type")
        return groups

    def _open(self, file: str) -> RowGroups:
        groups = open_groups(self._found.at(file))
        for column in filter(None, (self._column, self._id)):
            count = len(groups.schema.get_all_field_indices(column))
            if count != 1:
                names, rows = ", ".join(groups.schema.names), groups.starts[-1]
                held = f"has no column {column}" if not count else f"has {count} columns {column}"
                raise _ColumnError(f"{held}; its columns are {names}, its rows {rows}")
        return groups


def _columns(found: ContainerFiles) -> str:
    """The columns of the first table that can be read, for a message."""
    for file in found.files:
        if file_entry(file).problem:
            continue
        try:
            names = open_groups(found.at(file.path)).schema.names
        except (InputError, OSError):
            continue
        return f": {file.path} has {', '.join(names)}"
    return ""


def _place(source: str) -> tuple[str, int, int | None]:
    """The file, the row and the item of a list that a source names."""
    file, _, place = source.rpartition(":")
    row, _, item = place.partition(".")
    return file, int(row), int(item) if item else None


def _item(cell: Any, item: int | None) -> Any:
    """An item of a cell that is a list, or the cell itself for None. Raises IndexError where the
    cell has no such item."""
    if item is None and not is_list(cell.type):
        return cell
    if item is None or not is_list(cell.type) or not cell.is_valid:
        raise IndexError(item)
    return cell.values[item]
