"""Tables as batches of rows: Parquet, Arrow files and Arrow streams."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
from pyarrow import ipc, parquet

ARROW_ERRORS = (pyarrow.ArrowException, OSError, ValueError)
"""What pyarrow raises on files that are damaged or no tables."""

END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
ROWS_PER_BATCH = 64
"""Rows of a Parquet file that are in memory together."""


class LostRows(NamedTuple):
    """Rows that cannot be read, of which `rows` are known."""

    rows: int
    damaged: bool = True
    """Whether the file is damaged; not for a row of which only a value is wrong."""


def read_schema(file: Path) -> Any:
    """The pyarrow.Schema of a table. Raises one of ARROW_ERRORS."""
    _check(file)
    if _is_parquet(file):
        return parquet.read_schema(file)
    with pyarrow.OSFile(str(file), "rb") as source:
        return _arrow_reader(source, None).schema


def count_rows(file: Path) -> int:
    """The number of a table's rows. Raises one of ARROW_ERRORS."""
    _check(file)
    if _is_parquet(file):
        return int(parquet.read_metadata(file).num_rows)
    return sum(b.rows if isinstance(b, LostRows) else b.num_rows for b in read_batches(file, []))


def read_batches(file: Path, columns: Sequence[str]) -> Iterator[Any]:
    """Some columns of a table as pyarrow.RecordBatch, a few rows at a time, or LostRows.

    Raises one of ARROW_ERRORS for a file that is no table.
    """
    batches = _parquet(file, columns) if _is_parquet(file) else _arrow(file, columns)
    for batch in batches:
        if isinstance(batch, LostRows) or _is_valid(batch):
            yield batch
            continue
        for row in range(batch.num_rows):
            part = batch.slice(row, 1)
            yield part if _is_valid(part) else LostRows(1, damaged=False)


def _is_valid(batch: Any) -> bool:
    """Whether no value points outside of its buffers, which would end the process when it is read,
    and all texts are UTF-8."""
    try:
        batch.validate(full=True)
    except ARROW_ERRORS:
        return False
    return True


def _check(file: Path) -> None:
    """Opening a FIFO would wait for ever."""
    if not os.path.isfile(file):
        raise OSError("not a file")


def _is_parquet(file: Path) -> bool:
    return file.suffix.lower() == ".parquet"


def _parquet(file: Path, columns: Sequence[str]) -> Iterator[Any]:
    # No threads of Arrow's: one that frees a buffer of Python's at exit aborts the process.
    with parquet.ParquetFile(file, pre_buffer=False) as table:
        for group in range(table.metadata.num_row_groups):
            left = table.metadata.row_group(group).num_rows
            try:
                for batch in table.iter_batches(
                    ROWS_PER_BATCH, row_groups=[group], columns=list(columns), use_threads=False
                ):
                    left -= batch.num_rows
                    yield batch
            except ARROW_ERRORS:
                yield LostRows(left)


def _arrow(file: Path, columns: Sequence[str]) -> Iterator[Any]:
    with pyarrow.OSFile(str(file), "rb") as source:
        names = _arrow_reader(source, None).schema.names
        source.seek(0)
        reader = _arrow_reader(source, [names.index(column) for column in columns])
        is_stream = isinstance(reader, ipc.RecordBatchStreamReader)
        for i in range(0 if is_stream else reader.num_record_batches):
            try:
                yield reader.get_batch(i)
            except ARROW_ERRORS:
                yield LostRows(0)
        while is_stream:
            try:
                yield reader.read_next_batch()
            except StopIteration:
                break
            except ARROW_ERRORS:
                yield LostRows(0)
                return
        if is_stream:  # one that was cut between two batches ends without an error
            source.seek(source.size() - len(END_OF_STREAM))
            if source.read() != END_OF_STREAM:
                yield LostRows(0)


def _arrow_reader(source: Any, fields: list[int] | None) -> Any:
    """A reader of an Arrow file, or of a stream, which Hugging Face's library writes."""
    options = ipc.IpcReadOptions(included_fields=fields, use_threads=False)
    try:
        return ipc.open_file(source, options=options)
    except pyarrow.ArrowInvalid:
        source.seek(0)
        return ipc.open_stream(source, options=options)
