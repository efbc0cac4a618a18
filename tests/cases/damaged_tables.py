"""Damage to tables of images: Parquet and streams of Arrow."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from tests.cases.damage import A, B, C, Damage
from tests.cases.pairs import (
    NOT_TEXT,
    PNG,
    image_table,
    write_stream,
)


def _table_files(folder: Path, *damaged: bytes) -> None:
    parquet.write_table(image_table([A, B]), folder / "0.parquet")
    for i, content in enumerate(damaged, 1):
        (folder / f"{i}.parquet").write_bytes(content)


def _stream(folder: Path, cut: int) -> None:
    write_stream(folder / "0.arrow", image_table([A, B, C]), rows=1)
    data = (folder / "0.arrow").read_bytes()
    (folder / "0.arrow").write_bytes(data[: len(data) - cut])


def _pipe_table(folder: Path) -> None:
    _table_files(folder)
    os.mkfifo(folder / "1.parquet")


def _other_columns(folder: Path) -> None:
    _table_files(folder)
    parquet.write_table(pa.table({"a": [1]}), folder / "a.parquet")


def _bad_text(folder: Path) -> None:
    texts = pa.array([b"a", b"caf\xe9", b"b"])
    images = pa.array([PNG, PNG, PNG])
    table = pa.table({"image": images, "text": texts.view(pa.string())})
    write_stream(folder / "0.arrow", table, rows=3)


def _bad_offsets(folder: Path) -> None:
    """A text that ends a gigabyte behind its buffer: reading it would end the process."""
    offsets = pa.py_buffer(struct.pack("<4i", 0, 1, 2**30, 2))
    texts = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"ab")])
    table = pa.table({"image": pa.array([PNG, PNG, PNG]), "text": texts})
    write_stream(folder / "0.arrow", table, rows=3)


def _dates(folder: Path) -> None:
    """Captions that are no texts, the first of a year that Python does not have."""
    dates = pa.array([2**30, 1], pa.date32())
    parquet.write_table(pa.table({"image": [PNG, PNG], "text": dates}), folder / "0.parquet")


TABLES: dict[str, Damage] = {
    "table: damaged beside a good one": (
        lambda f: _table_files(f, b"PAR1", b""),
        2,
        {},
        {"1.parquet": "not a table", "2.parquet": "not a table"},
    ),
    "table: a pipe": (_pipe_table, 2, {}, {"1.parquet": "not a file"}),
    "table: other columns beside": (
        _other_columns,
        2,
        {},
        {"a.parquet": "not the columns of a pair"},
    ),
    "table: text that is not UTF-8": (_bad_text, 2, {"cannot be read": 1}, {}),
    "table: offsets that lead out": (_bad_offsets, 1, {"cannot be read": 2}, {}),
    "table: dates for captions": (_dates, 0, {"cannot be read": 1, NOT_TEXT: 1}, {}),
    "table: stream cut in a batch": (lambda f: _stream(f, 100), 2, {}, {"0.arrow": "damaged"}),
    "table: stream cut behind a batch": (lambda f: _stream(f, 8), 3, {}, {"0.arrow": "damaged"}),
}
