"""The rows of a finished export as unit codes, a batch in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.export.finalize import DONE
from serving.export.job import ExportError
from serving.export.reader import Shards
from serving.export.verify import Watch, unwatched
from serving.index.databases.base import Code, Origin, Row

COLUMNS = ["id", "source", "indices", "values", "norm"]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """An export that is whole."""

    shards: Shards

    @classmethod
    def open(cls, location: str, watch: Watch = unwatched) -> Rows:
        """The export in a folder. Raises ExportError unless all of it is there and as its receipts
        say, or PlaceError."""
        shards = Shards.open(location, watch)
        if not shards.done:
            raise ExportError(f"{location}: not finished: no {DONE}; run the export again")
        if not shards.whole:
            numbers = ", ".join(map(str, shards.altered[:10])) or "some"
            raise ExportError(
                f"{location}: shards missing or altered since they were written: {numbers}; "
                "`sparseclip export verify` tells more, and exporting again mends it"
            )
        return cls(shards=shards)

    @property
    def total(self) -> int:
        """Rows, those without any concept included."""
        return self.shards.rows

    @property
    def origin(self) -> Origin:
        """The model that made it."""
        return Origin(model=self.shards.job.model, bundle=self.shards.job.bundle)

    def batches(self, size: int) -> Iterator[list[Row]]:
        """All rows in the export's order."""
        for receipt in self.shards.receipts:
            yield from map(_rows, self.shards.batches(receipt, COLUMNS, size))


def _rows(batch: Any) -> list[Row]:
    """A pyarrow.RecordBatch as rows of unit codes."""
    lengths = batch["indices"].value_lengths().to_numpy()
    ends = np.cumsum(lengths)[:-1]
    norms = np.maximum(batch["norm"].to_numpy(), 1e-12)
    indices = batch["indices"].flatten().to_numpy()
    values = batch["values"].flatten().to_numpy() / np.repeat(norms, lengths)
    codes = map(Code, np.split(indices, ends), np.split(values, ends))
    return list(map(Row, batch["id"].to_pylist(), batch["source"].to_pylist(), codes))
