"""Which concepts fire on the same rows. B rows of a batch, N compared concepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.export.export_reader import ExportReader
from serving.export.verify_export import TrackProgress


@dataclass(frozen=True, kw_only=True)
class Cooccurrence:
    """On how many rows each pair of concepts fires."""

    concepts: NDArray[np.int64]
    """(N,): ids."""
    rows: NDArray[np.int64]
    """(N, N): rows on which both fire; on the diagonal, rows on which the concept fires."""
    total: int
    """All rows."""

    @classmethod
    def count(
        cls, export: ExportReader, concepts: Sequence[int], track: TrackProgress
    ) -> Cooccurrence:
        """Reads all rows once. The counts of a batch are the product of a matrix (B, N) of zeros
        and ones, which concept fires on which row, with itself."""
        ids = np.array(concepts, np.int64)
        # Column of each concept id, and -1 for the others; the last element stands for all higher
        # ids.
        column_of = np.full(max(concepts, default=-1) + 2, -1)
        column_of[ids] = np.arange(len(ids))
        counts = np.zeros((len(ids), len(ids)), np.int64)
        total = 0
        for receipt in track(export.receipts, "counting pairs"):
            for batch in export.batches(receipt, ["indices"]):
                lengths = batch["indices"].value_lengths().to_numpy()
                fired = batch["indices"].flatten().to_numpy()
                columns = column_of[np.minimum(fired, len(column_of) - 1)]
                compared = columns >= 0
                rows = np.repeat(np.arange(len(lengths)), lengths)
                fires = np.zeros((len(lengths), len(ids)), np.float32)
                fires[rows[compared], columns[compared]] = 1
                counts += (fires.T @ fires).astype(np.int64)  # exact below 2**24 rows
                total += len(lengths)
        return cls(concepts=ids, rows=counts, total=total)

    @property
    def expected(self) -> NDArray[np.float64]:
        """(N, N): rows on which both would fire if they were independent."""
        alone = np.diag(self.rows).astype(np.float64)
        return np.outer(alone, alone) / max(self.total, 1)

    @property
    def lift(self) -> NDArray[np.float64]:
        """(N, N): how many times more often they fire together than if they were independent."""
        return self.rows / np.maximum(self.expected, 1e-12)

    @property
    def jaccard(self) -> NDArray[np.float64]:
        """(N, N): of the rows on which either fires, the share on which both do."""
        alone: NDArray[np.int64] = np.diag(self.rows)
        either = np.add.outer(alone, alone) - self.rows
        shares: NDArray[np.float64] = self.rows / np.maximum(either, 1)
        return shares

    @property
    def information(self) -> NDArray[np.float64]:
        """(N, N): lift in bits (pointwise mutual information). One row is added to both counts, so
        that pairs on few rows stay near 0."""
        bits: NDArray[np.float64] = np.log2((self.rows + 1) / (self.expected + 1))
        return bits

    def first(self, count: int) -> Cooccurrence:
        """The counts of the first `count` concepts."""
        rows = self.rows[:count, :count]
        return Cooccurrence(concepts=self.concepts[:count], rows=rows, total=self.total)

    def by_neighbours(self) -> Cooccurrence:
        """The same counts in an order that puts concepts that fire together beside each other: that
        of the second eigenvector of the graph's Laplacian (spectral seriation)."""
        if len(self.concepts) < 3:
            return self
        affinity = np.maximum(self.information, 0)
        np.fill_diagonal(affinity, 0)
        _, vectors = np.linalg.eigh(np.diag(affinity.sum(axis=1)) - affinity)
        order = np.argsort(vectors[:, 1], kind="stable")
        return Cooccurrence(
            concepts=self.concepts[order], rows=self.rows[np.ix_(order, order)], total=self.total
        )

    def top_pairs(self, count: int, support: int) -> list[tuple[int, int]]:
        """Positions in `concepts` of the `count` pairs of the highest lift, among those that fire
        together on `support` rows or more."""
        one, other = np.triu_indices(len(self.concepts), 1)
        enough = self.rows[one, other] >= support
        one, other = one[enough], other[enough]
        order = np.argsort(-self.lift[one, other], kind="stable")[:count]
        return list(zip(one[order].tolist(), other[order].tolist(), strict=True))
