"""The rows on which each concept is strongest. C concepts, S rows kept for each, N non-zeros."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class TopRows:
    """The strongest rows of every concept, kept while all rows pass by. Memory depends on C and S
    only."""

    def __init__(self, keep: int) -> None:
        """`keep` is S, 1 or more."""
        self.values = np.zeros((0, keep), np.float32)
        """(C, S), descending; 0 where a concept fired on fewer rows."""
        self.rows = np.zeros((0, keep), np.int64)
        """(C, S), numbers of rows. Among equal values the earlier row comes first."""

    def of(self, concept: int) -> NDArray[np.int64]:
        """The rows of a concept, the strongest first."""
        rows: NDArray[np.int64] = self.rows[concept][self.values[concept] > 0]
        return rows

    def add(
        self, concepts: NDArray[np.uint32], values: NDArray[np.float32], rows: NDArray[np.int64]
    ) -> None:
        """Adds non-zeros (N,): the concept, the value and the row of each. All rows must come after
        those that were added before."""
        if not len(concepts):
            return
        self._grow(int(concepts.max()) + 1)
        # After the first rows, few values are above the weakest one that is kept. Only those are
        # sorted, together with all that is kept of their concepts.
        above = np.flatnonzero(values > self.values[concepts, -1])
        touched = np.unique(concepts[above]).astype(np.int64)
        keep = self.values.shape[1]
        concept = np.concatenate([np.repeat(touched, keep), concepts[above]])
        value = np.concatenate([self.values[touched].ravel(), values[above]])
        row = np.concatenate([self.rows[touched].ravel(), rows[above]])
        order = np.lexsort((row, -value, concept))  # by concept, then value, then row
        first = np.searchsorted(concept[order], touched)
        best = order[first[:, None] + np.arange(keep)]
        self.values[touched], self.rows[touched] = value[best], row[best]

    def _grow(self, concepts: int) -> None:
        more = ((0, max(0, concepts - len(self.values))), (0, 0))
        self.values, self.rows = np.pad(self.values, more), np.pad(self.rows, more)
