"""Sparse codes in CSR form. B batch, C concepts, K active concepts of a row, N of all rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ACTIVE_ABOVE = 0.0
"""A concept is active, or fires, where its code is above this: in the graphs' counts, in training's
logs, in every figure and in the evidence for names. The paper counts from 0.001 on (arXiv
2601.20075); a code of a bundle's TopK is above 0."""

ACTIVE_ROWS = 2
"""A concept of a model is active, and not only alive, where it fires on at least so many rows."""


class CodesError(ValueError):
    """Codes that break the CSR contract; the message names the array."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseCodes:
    """B rows of non-negative codes over C concepts, compressed by rows.

    indices (N,) uint32, strictly increasing inside a row and below `concepts`; values (N,) float32,
    finite and > 0; offsets (B+1,) uint32, row b being `offsets[b]:offsets[b+1]`.
    """

    indices: NDArray[np.uint32]
    values: NDArray[np.float32]
    offsets: NDArray[np.uint32]
    concepts: int

    @classmethod
    def from_topk(
        cls, indices: NDArray[np.integer], values: NDArray[np.floating], concepts: int
    ) -> SparseCodes:
        """Builds codes from a graph's TopK: indices and values (B, K), unused slots holding 0.

        Raises CodesError for other shapes, for a value that is negative, NaN or infinite, and for
        an id outside of 0 to C - 1.
        """
        if indices.shape != values.shape or indices.ndim != 2:
            raise CodesError(f"indices {indices.shape} and values {values.shape} must be (B, K)")
        if not np.isfinite(values).all() or (values < 0).any():
            raise CodesError("values: negative or not finite")
        used = values > 0
        if (indices[used] < 0).any() or (indices[used] >= concepts).any():
            raise CodesError(f"indices: an id outside of 0..{concepts - 1}")
        order = np.argsort(np.where(used, indices, np.iinfo(np.int64).max), axis=1, kind="stable")
        indices = np.take_along_axis(indices, order, axis=1)
        values = np.take_along_axis(values, order, axis=1)
        used = np.take_along_axis(used, order, axis=1)
        offsets = np.zeros(len(values) + 1, dtype=np.uint32)
        np.cumsum(used.sum(axis=1), out=offsets[1:])
        return cls(
            indices=indices[used].astype(np.uint32),
            values=values[used].astype(np.float32),
            offsets=offsets,
            concepts=concepts,
        )

    @classmethod
    def from_dense(cls, dense: NDArray[np.floating]) -> SparseCodes:
        """Builds codes from rows (B, C). Raises CodesError for a value that `from_topk` refuses."""
        return cls.from_topk(
            np.broadcast_to(np.arange(dense.shape[1]), dense.shape), dense, concepts=dense.shape[1]
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, b: int) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
        """The indices and values of row b, each (K_b,)."""
        start, stop = int(self.offsets[b]), int(self.offsets[b + 1])
        return self.indices[start:stop], self.values[start:stop]

    def to_dense(self) -> NDArray[np.float32]:
        """The codes with their zeros: (B, C) float32."""
        dense = np.zeros((len(self), self.concepts), dtype=np.float32)
        rows = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        dense[rows, self.indices] = self.values
        return dense

    def validate(self) -> None:
        """Raises CodesError, naming the array, unless they are as the class describes."""
        if self.offsets.ndim != 1 or len(self.offsets) < 1 or self.offsets[0] != 0:
            raise CodesError("offsets: must be (B+1,) and start at 0")
        if (np.diff(self.offsets.astype(np.int64)) < 0).any():
            raise CodesError("offsets: must not decrease")
        if not (len(self.indices) == len(self.values) == int(self.offsets[-1])):
            raise CodesError("indices, values: their lengths must equal the last offset")
        if not np.isfinite(self.values).all() or (self.values <= 0).any():
            raise CodesError("values: must be finite and greater than 0")
        if (self.indices >= self.concepts).any():
            raise CodesError(f"indices: an id outside of 0..{self.concepts - 1}")
        step = np.diff(self.indices.astype(np.int64))
        within_row = np.ones(len(step), dtype=bool)
        row_ends = self.offsets[1:-1].astype(np.int64) - 1
        within_row[row_ends[(row_ends >= 0) & (row_ends < len(step))]] = False
        if (step[within_row] <= 0).any():
            raise CodesError("indices: must strictly increase inside a row")
