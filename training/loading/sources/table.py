"""Tables: Parquet and Arrow files with a column of encoded images and one of captions."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from pyarrow import types

from training.data.data_recipe import DataError
from training.loading.sources import _reasons
from training.loading.sources._captions import captions_of
from training.loading.sources._columns import CAPTIONS, IMAGES, PATHS, choose
from training.loading.sources._files import inside, read_image, walk
from training.loading.sources._names import TABLE_SUFFIXES, endings, is_image
from training.loading.sources._tables import (
    ARROW_ERRORS,
    LostRows,
    count_rows,
    read_batches,
    read_schema,
)
from training.loading.sources.base import (
    MAX_IMAGE_BYTES,
    BadPair,
    BadPairError,
    Columns,
    Damage,
    Found,
    Pair,
    printable,
)


class PairColumns(NamedTuple):
    """The columns of a table that hold its pairs."""

    image: str
    caption: str
    classes: Sequence[str]
    """Names of the classes whose numbers the captions' column holds; empty for texts."""


class TablePairs:
    """The rows of the tables in and below a folder.

    A cell of the image column holds the bytes of a file, or its path, or both, as Hugging Face's
    `Image` does. A path is relative to the folder of its table, and stays inside.
    """

    def __init__(
        self, folder: Path, files: Sequence[str], columns: Columns, others: Sequence[str] = ()
    ) -> None:
        """`others` are files of the folder that are no tables; a table may name images among them.

        Raises DataError when none of the tables that can be read has the columns of pairs.
        """
        self._folder, self._columns = folder, columns
        self.left_out: Mapping[str, int] = endings(name for name in others if not is_image(name))
        self.pieces = files
        unfit: DataError | None = None
        for file in files:
            try:
                _choose(read_schema(folder / file), columns, file)
                return
            except ARROW_ERRORS:
                continue
            except DataError as error:
                unfit = unfit or error
        if unfit is not None:
            raise unfit

    @classmethod
    def open(cls, path: Path, columns: Columns) -> Self:
        """See PairSource.open. The path is a table, or a folder that holds some."""
        if not path.is_dir():
            return cls(path.parent, [path.name], columns)
        names = list(walk(path))
        files = [name for name in names if name.lower().endswith(TABLE_SUFFIXES)]
        if not files:
            raise DataError(f"data.path: {path.name} holds none of {', '.join(TABLE_SUFFIXES)}")
        return cls(path, files, columns, sorted(set(names) - set(files)))

    def count(self, piece: str) -> int:
        """See PairSource.count."""
        try:
            return count_rows(self._folder / piece)
        except ARROW_ERRORS:
            return 0

    def read(self, piece: str) -> Iterator[Found]:
        """See PairSource.read."""
        file, name = self._folder / piece, printable(piece)
        if not os.path.isfile(file):  # never raises, whatever the name
            is_there = os.path.exists(file)
            yield Damage(name, _reasons.PIECE_NOT_A_FILE if is_there else _reasons.PIECE_NOT_FOUND)
            return
        row, damage = 0, ""
        try:
            columns = _choose(read_schema(file), self._columns, name)
            for batch in read_batches(file, columns[:2]):
                if isinstance(batch, LostRows):
                    for _ in range(batch.rows):
                        yield BadPair(f"{name}:{row}", _reasons.UNREADABLE)
                        row += 1
                    damage = _reasons.DAMAGED if batch.damaged else damage
                    continue
                for i in range(batch.num_rows):
                    yield self._row(f"{name}:{row}", batch, i, columns, file.parent)
                    row += 1
        except DataError:
            damage = _reasons.OTHER_COLUMNS
        except ARROW_ERRORS:
            damage = _reasons.NOT_A_TABLE
        if damage:
            yield Damage(name, damage)

    def _row(self, key: str, batch: Any, row: int, columns: PairColumns, folder: Path) -> Found:
        try:
            captions = _captions(_cell(batch, columns.caption, row), columns.classes)
            return Pair(key, _image(_cell(batch, columns.image, row), folder), captions)
        except BadPairError as reason:
            return BadPair(key, str(reason))


def _choose(schema: Any, columns: Columns, file: str) -> PairColumns:
    """The columns of a table that has `schema`. Raises DataError."""
    names = [field.name for field in schema]
    binary = [field.name for field in schema if _is_binary(field.type)]
    usual = (*IMAGES, *PATHS, *(binary if len(binary) == 1 else ()))
    classes = _classes(schema)
    captions = (*CAPTIONS, *(classes if len(classes) == 1 else ()))
    image = choose(names, columns.image, usual, "data.image_column", file)
    caption = choose(names, columns.caption, captions, "data.caption_column", file)
    return PairColumns(image, caption, classes.get(caption, ()))


def _is_binary(kind: Any) -> bool:
    return any(
        is_kind(kind) for is_kind in (types.is_binary, types.is_large_binary, types.is_binary_view)
    )


def _classes(schema: Any) -> dict[str, Sequence[str]]:
    """Hugging Face's columns of classes, with the classes' names."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            name: [str(label) for label in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _cell(batch: Any, column: str, row: int) -> object:
    try:
        value: object = batch.column(column)[row].as_py()
    except (*ARROW_ERRORS, OverflowError):  # a text that is not UTF-8, a date that Python has not
        raise BadPairError(_reasons.UNREADABLE) from None
    return value


def _captions(value: object, classes: Sequence[str]) -> tuple[str, ...]:
    if classes and isinstance(value, int):
        if not 0 <= value < len(classes):
            raise BadPairError(_reasons.UNNAMED_CLASS)
        value = classes[value].replace("_", " ")
    return captions_of(value)


def _image(value: object, folder: Path) -> bytes:
    if isinstance(value, dict):
        data = value.get("bytes")
        value = value.get("path") if data is None else data
    if isinstance(value, str):
        return read_image(inside(folder, value))
    if not isinstance(value, bytes):
        raise BadPairError(_reasons.NO_IMAGE)
    if not value:
        raise BadPairError(_reasons.EMPTY_IMAGE)
    if len(value) > MAX_IMAGE_BYTES:
        raise BadPairError(_reasons.IMAGE.too_large)
    return value
