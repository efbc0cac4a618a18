"""A Parquet file a shard; any reader takes the folder as one table."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow.parquet as parquet

from serving.export.formats.base import ShardFiles
from serving.storage.location import Place

REPEATED = [
    "id",
    "source",
    "reason",
    "indices.list.element",
    "concepts.list.element.id",
    "concepts.list.element.name",
]
"""Columns with few different values, which a dictionary makes smaller."""
FLOATS = [
    "values.list.element",
    "norm",
    "concepts.list.element.value",
    "dense.list.element",
]
"""Columns whose bytes compress better apart: 31% of a row with a dense vector, with the above."""


class ParquetFormat:
    """See ExportFormat."""

    extra: frozenset[str] = frozenset()
    folders: tuple[str, ...] = ()

    def files(self, table: Any, stem: str) -> dict[str, bytes]:
        """See ExportFormat.files."""
        return {f"{stem}.parquet": parquet_bytes(table)}

    def read(
        self, data: Place, names: Sequence[str], columns: Sequence[str], rows: int
    ) -> Iterator[Any]:
        """See ExportFormat.read."""
        for name in names:
            yield from parquet_batches(data.at(name), columns, rows)

    def finish(self, data: Place, schema: Any, shards: Sequence[ShardFiles]) -> None:
        """A folder of Parquet files needs nothing more."""


def parquet_bytes(table: Any) -> bytes:
    """A table as one Parquet file."""
    stream = io.BytesIO()
    parquet.write_table(
        table,
        stream,
        compression="zstd",
        use_dictionary=REPEATED,
        use_byte_stream_split=FLOATS,
    )
    return stream.getvalue()


def parquet_batches(place: Place, columns: Sequence[str], rows: int) -> Iterator[Any]:
    """Columns of a Parquet file as pyarrow.RecordBatch of at most so many rows."""
    with place.open() as stream:
        # A thread of Arrow's that frees a buffer of Python's at exit aborts the process.
        yield from parquet.ParquetFile(stream).iter_batches(
            rows, columns=list(columns), use_threads=False
        )
