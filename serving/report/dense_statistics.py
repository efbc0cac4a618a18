"""What an export of dense vectors tells without concepts: norms, neighbours, what was read.

B rows, D width of a vector, N rows of the sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.export.export_reader import ExportReader, dense_rows
from serving.export.verify_export import TrackProgress

SAMPLE_ROWS = 4096
"""N at most. All pairs of so many rows are compared in a second."""
BLOCK_ROWS = 512
"""Rows of the sample that are compared with all others at a time."""
NEAR_DUPLICATE = 0.995
"""Two rows of this cosine or more hold nearly the same."""
WHOLE = 0.995
"""The share of an image from which on it counts as read whole."""


@dataclass(frozen=True, kw_only=True)
class RowPair:
    """Two rows that are near to each other."""

    one: int
    other: int
    cosine: float


class DenseStatistics:
    """What rows add up to. Memory depends on N and D, and 4 bytes for each row."""

    def __init__(self, rows: int, modality: str) -> None:
        """`rows` is how many there will be: every so many of them goes into the sample."""
        self.rows = 0
        self.width = 0
        """D."""
        self.read: dict[str, int] = {}
        """Rows by what was not read of them."""
        self._norms: list[NDArray[np.float32]] = []
        self._tokens: list[NDArray[np.uint32]] = []
        self._step = max(1, -(-rows // SAMPLE_ROWS))
        self._sample: list[NDArray[np.float32]] = []
        self._is_text = modality == "text"

    @classmethod
    def of(cls, export: ExportReader, track: TrackProgress) -> DenseStatistics:
        """Reads all rows once."""
        statistics = cls(export.rows, export.job.modality)
        for receipt in track(export.receipts, "counting"):
            for batch in export.batches(receipt, statistics.columns):
                statistics.add(batch)
        return statistics

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        if self._is_text:
            return ["dense", "tokens", "truncated"]
        return ["dense", "image_share", "ground", "frames"]

    def add(self, batch: Any) -> None:
        """Adds the rows of a pyarrow.RecordBatch of `columns`."""
        vectors = dense_rows(batch["dense"])  # (B, D)
        norms = np.linalg.norm(vectors, axis=1)
        first = -self.rows % self._step
        self._sample.append(vectors[first :: self._step] / norms[first :: self._step, None])
        self._norms.append(norms)
        self.rows, self.width = self.rows + len(vectors), vectors.shape[1]
        if self._is_text:
            self._tokens.append(batch["tokens"].to_numpy())
            self._count("text cut", batch["truncated"].to_numpy(zero_copy_only=False))
            return
        self._count("cropped", batch["image_share"].to_numpy() < WHOLE)
        self._count("on a ground", np.array(batch["ground"].to_pylist()) != "")
        self._count("first frame of several", batch["frames"].to_numpy() > 1)

    def _count(self, what: str, holds: NDArray[np.bool_]) -> None:
        self.read[what] = self.read.get(what, 0) + int(holds.sum())

    @property
    def norms(self) -> NDArray[np.float32]:
        """The L2 norm of every row."""
        return np.concatenate(self._norms) if self._norms else np.zeros(0, np.float32)

    @property
    def tokens(self) -> NDArray[np.uint32]:
        """The tokens of every text; none of images."""
        return np.concatenate(self._tokens) if self._tokens else np.zeros(0, np.uint32)

    def neighbours(self, count: int) -> tuple[NDArray[np.float32], list[RowPair]]:
        """The cosine of every row of the sample with the one nearest to it, (N,), and the `count`
        nearest pairs, each once."""
        units = np.concatenate(self._sample) if self._sample else np.zeros((0, 1), np.float32)
        if len(units) < 2:
            return np.zeros(0, np.float32), []
        nearest, pairs = np.zeros(len(units), np.float32), list[RowPair]()
        for start in range(0, len(units), BLOCK_ROWS):
            cosines = units[start : start + BLOCK_ROWS] @ units.T  # (block, N)
            block = np.arange(len(cosines))
            cosines[block, start + block] = -np.inf
            nearest[start : start + len(block)] = cosines.max(axis=1)
            later = np.where(np.arange(len(units)) > start + block[:, None], cosines, -np.inf)
            best = np.argsort(-later, axis=None, kind="stable")[:count]
            pairs += [
                RowPair(
                    one=int(start + row) * self._step,
                    other=int(column) * self._step,
                    cosine=float(later[row, column]),
                )
                for row, column in zip(*np.unravel_index(best, later.shape), strict=True)
                if np.isfinite(later[row, column])
            ]
        pairs.sort(key=lambda pair: -pair.cosine)
        return np.clip(nearest, -1, 1), pairs[:count]
