"""The codes of the gallery's pictures: a search by weighted concepts, and evidence of one concept.

N pictures, C concepts, A active entries of all codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engines.outputs import OutputRow

MAX_REASONS = 8
"""How many concepts of a hit are named."""


@dataclass(frozen=True, kw_only=True)
class MatchReason:
    """What one concept adds to a hit's score."""

    concept: int
    value: float
    """The concept's activation on the picture."""
    contribution: float


@dataclass(frozen=True, kw_only=True)
class GalleryHit:
    """A picture that was found."""

    row: int
    score: float
    """The cosine of the picture's code and the weights."""
    reasons: tuple[MatchReason, ...]
    """What the score is the sum of, largest share first."""


class GalleryIndex:
    """Unit codes of N pictures, as entries of (picture, concept, value)."""

    def __init__(self, codes: Mapping[int, OutputRow]) -> None:
        """`codes` has the code of each picture that has one, by its number."""
        rows = [np.full(len(code.indices), row, np.int64) for row, code in codes.items()]
        self._rows: NDArray[np.int64] = _joined(rows, np.int64)
        self._concepts: NDArray[np.int64] = _joined([c.indices for c in codes.values()], np.int64)
        self._values: NDArray[np.float64] = _joined([c.values for c in codes.values()], np.float64)
        norms = [np.full(len(c.indices), c.norm or 1.0) for c in codes.values()]
        self._norms: NDArray[np.float64] = _joined(norms, np.float64)

    def strongest(self, concept: int, limit: int) -> list[tuple[int, float]]:
        """The pictures on which a concept fires with its activation, strongest first."""
        at = np.flatnonzero(self._concepts == concept)
        at = at[np.argsort(-self._values[at], kind="stable")[:limit]]
        return list(zip(self._rows[at].tolist(), self._values[at].tolist(), strict=True))

    def search(self, weights: Mapping[int, float], limit: int) -> list[GalleryHit]:
        """The pictures whose codes are nearest to weighted concepts, best first.

        A picture on which none of them fires is no hit, nor is one that the weights speak against.
        """
        wanted = np.fromiter(weights, np.int64, len(weights))
        factors = np.fromiter(weights.values(), np.float64, len(weights))
        length = float(np.linalg.norm(factors)) or 1.0
        order = np.argsort(wanted)
        wanted, factors = wanted[order], factors[order] / length
        at = np.flatnonzero(np.isin(self._concepts, wanted))
        shares = self._values[at] / self._norms[at]
        shares *= factors[np.searchsorted(wanted, self._concepts[at])]
        rows = self._rows[at]
        scores = np.bincount(rows, weights=shares)
        best = [row for row in np.argsort(-scores, kind="stable").tolist() if scores[row] > 0]
        return [
            GalleryHit(
                row=row,
                score=float(scores[row]),
                reasons=self._reasons(at[rows == row], shares[rows == row]),
            )
            for row in best[:limit]
        ]

    def _reasons(
        self, at: NDArray[np.int64], shares: NDArray[np.float64]
    ) -> tuple[MatchReason, ...]:
        order = np.argsort(-np.abs(shares), kind="stable")[:MAX_REASONS]
        return tuple(
            MatchReason(
                concept=int(self._concepts[at[i]]),
                value=float(self._values[at[i]]),
                contribution=float(shares[i]),
            )
            for i in order.tolist()
        )


def _joined(parts: Sequence[NDArray[Any]], kind: type[np.generic]) -> NDArray[Any]:
    return np.concatenate(parts).astype(kind) if parts else np.zeros(0, kind)
