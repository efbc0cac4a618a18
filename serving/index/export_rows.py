"""The rows of a finished export as unit codes or dense vectors, a batch in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.export.export_reader import ExportReader, dense_rows
from serving.export.finalize import DONE
from serving.export.job import ExportError
from serving.export.verify_export import TrackProgress, no_progress
from serving.index.databases.base import Code, IndexRow, Origin

COLUMNS = ["id", "source", "indices", "values", "norm"]
DENSE_COLUMNS = ["id", "source", "dense"]
MAX_NUMBERS_IN_MESSAGE = 10


@dataclass(frozen=True, kw_only=True)
class ExportRows:
    """An export that is whole."""

    export: ExportReader

    @classmethod
    def open(cls, location: str, track: TrackProgress = no_progress) -> ExportRows:
        """The export in a folder. Raises ExportError unless all of it is there and as its receipts
        say, LocationError or PluginError."""
        export = ExportReader.open(location, track)
        if not export.is_done:
            raise ExportError(f"{location}: not finished: no {DONE}; run the export again")
        if not export.is_whole:
            altered = export.altered[:MAX_NUMBERS_IN_MESSAGE]
            raise ExportError(
                f"{location}: shards missing or altered since they were written: "
                f"{', '.join(map(str, altered)) or 'some'}; "
                "`sparseclip export verify` tells more, and exporting again mends it"
            )
        if not (export.holds_codes or export.dense_dim):
            raise ExportError(f"{location}: holds no row, so there is nothing to index")
        return cls(export=export)

    @property
    def total(self) -> int:
        """How many rows there are, those without any concept included."""
        return self.export.rows

    @property
    def export_name(self) -> str:
        """What tells this export from all others in a database."""
        return self.export.name[:16]

    @property
    def ended_ids(self) -> set[str]:
        """Ids of rows that updates ended; some are live again."""
        return set(self.export.ended.table["id"].to_pylist())

    @property
    def origin(self) -> Origin:
        """The model that made the export, and what of it the rows hold."""
        job = self.export.job
        return Origin(model=job.model, bundle=job.bundle, dense_dim=self.export.dense_dim)

    def batches(self, size: int) -> Iterator[list[IndexRow]]:
        """All rows in the export's order, at most `size` at a time."""
        for receipt in self.export.receipts:
            stamp = f"{self.export_name} {self.export.generations.generation_of(receipt.shard)}"
            if self.export.holds_codes:
                for batch in self.export.batches(receipt, COLUMNS, size):
                    yield _unit_codes(batch, stamp)
            else:
                for batch in self.export.batches(receipt, DENSE_COLUMNS, size):
                    yield _unit_vectors(batch, stamp)


def _unit_codes(batch: Any, stamp: str) -> list[IndexRow]:
    """A pyarrow.RecordBatch of COLUMNS as rows of unit codes."""
    lengths = batch["indices"].value_lengths().to_numpy()
    ends = np.cumsum(lengths)[:-1]
    norms = np.maximum(batch["norm"].to_numpy(), 1e-12)
    indices = batch["indices"].flatten().to_numpy()
    values = batch["values"].flatten().to_numpy() / np.repeat(norms, lengths)
    codes = map(Code, np.split(indices, ends), np.split(values, ends))
    names = zip(batch["id"].to_pylist(), batch["source"].to_pylist(), codes, strict=True)
    return [IndexRow(id, source, code, stamp) for id, source, code in names]


def _unit_vectors(batch: Any, stamp: str) -> list[IndexRow]:
    """A pyarrow.RecordBatch of DENSE_COLUMNS as rows of unit vectors."""
    names = zip(batch["id"].to_pylist(), batch["source"].to_pylist(), strict=True)
    vectors = dense_rows(batch["dense"])  # (B, D)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return [
        IndexRow(id, source, vector, stamp)
        for (id, source), vector in zip(names, vectors, strict=True)
    ]
