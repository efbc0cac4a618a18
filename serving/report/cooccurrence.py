"""Which concepts fire on the same rows. B rows of a batch, N chosen concepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.export.reader import Shards
from serving.export.verify import Watch


@dataclass(frozen=True, kw_only=True)
class Together:
    """Counts of pairs."""

    concepts: NDArray[np.int64]
    """(N,), chosen."""
    rows: NDArray[np.int64]
    """(N, N): on which both fire; on the diagonal, on which the one does."""
    total: int
    """Of all rows."""

    @classmethod
    def of(cls, shards: Shards, concepts: Sequence[int], watch: Watch) -> Together:
        """One pass over all rows: a product of a batch's codes, of the chosen concepts only, with
        themselves."""
        chosen = np.array(concepts, np.int64)
        place = np.full(max(concepts, default=-1) + 2, -1)  # the last: all that are not chosen
        place[chosen] = np.arange(len(chosen))
        counts = np.zeros((len(chosen), len(chosen)), np.int64)
        total = 0
        for receipt in watch(shards.receipts, "counting pairs"):
            for batch in shards.batches(receipt, ["indices"]):
                lengths = batch["indices"].value_lengths().to_numpy()
                flat = batch["indices"].flatten().to_numpy()
                places = place[np.minimum(flat, len(place) - 1)]
                mine = places >= 0
                fires = np.zeros((len(lengths), len(chosen)), np.float32)
                fires[np.repeat(np.arange(len(lengths)), lengths)[mine], places[mine]] = 1
                counts += (fires.T @ fires).astype(np.int64)  # exact below 2**24 rows
                total += len(lengths)
        return cls(concepts=chosen, rows=counts, total=total)

    @property
    def expected(self) -> NDArray[np.float64]:
        """(N, N): rows on which both would fire if they knew nothing of each other."""
        alone = np.diag(self.rows).astype(np.float64)
        return np.outer(alone, alone) / max(self.total, 1)

    @property
    def lift(self) -> NDArray[np.float64]:
        """(N, N): how many times more often than that they fire together."""
        return self.rows / np.maximum(self.expected, 1e-12)

    @property
    def jaccard(self) -> NDArray[np.float64]:
        """(N, N): of rows on which either fires, the share on which both do."""
        alone: NDArray[np.int64] = np.diag(self.rows)
        either = np.add.outer(alone, alone) - self.rows
        shares: NDArray[np.float64] = self.rows / np.maximum(either, 1)
        return shares

    @property
    def information(self) -> NDArray[np.float64]:
        """(N, N): lift in bits (pointwise mutual information), a row added to either count: what
        few rows say stays near 0."""
        bits: NDArray[np.float64] = np.log2((self.rows + 1) / (self.expected + 1))
        return bits

    def part(self, count: int) -> Together:
        """Of the first concepts only."""
        rows = self.rows[:count, :count]
        return Together(concepts=self.concepts[:count], rows=rows, total=self.total)

    def by_neighbours(self) -> Together:
        """The same, concepts that fire together beside each other: in the order of the second
        eigenvector of the graph's Laplacian."""
        if len(self.concepts) < 3:
            return self
        near = np.maximum(self.information, 0)
        np.fill_diagonal(near, 0)
        _, vectors = np.linalg.eigh(np.diag(near.sum(axis=1)) - near)
        order = np.argsort(vectors[:, 1], kind="stable")
        return Together(
            concepts=self.concepts[order], rows=self.rows[np.ix_(order, order)], total=self.total
        )

    def strongest_pairs(self, count: int, support: int) -> list[tuple[int, int]]:
        """Places of the pairs of the highest lift that fire together on `support` rows or more."""
        one, other = np.triu_indices(len(self.concepts), 1)
        enough = self.rows[one, other] >= support
        one, other = one[enough], other[enough]
        order = np.argsort(-self.lift[one, other], kind="stable")[:count]
        return list(zip(one[order].tolist(), other[order].tolist(), strict=True))
