"""Lists of different lengths, one for each row, as Arrow columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray


def list_column(rows: Sequence[NDArray[Any]], dtype: Any) -> Any:
    """One array of each row as pyarrow.ListArray."""
    flat = np.concatenate(rows).astype(dtype) if rows else np.zeros(0, dtype)
    offsets = _offsets([len(row) for row in rows])
    return pyarrow.ListArray.from_arrays(offsets, pyarrow.array(flat))


def concept_column(lengths: Any, ids: Any, names: Sequence[str], values: Any) -> Any:
    """Concepts (id, name, value) of each row as pyarrow.ListArray. `lengths` says how many each row
    has; `ids`, `names` and `values` hold those of all rows, one row after the other."""
    concepts = pyarrow.StructArray.from_arrays(
        [
            pyarrow.array(ids, pyarrow.uint32()),
            pyarrow.array(names, pyarrow.string()),
            pyarrow.array(values, pyarrow.float32()),
        ],
        names=["id", "name", "value"],
    )
    return pyarrow.ListArray.from_arrays(_offsets(lengths), concepts)


def fixed_size_column(arrays: Sequence[NDArray[Any]], width: int) -> Any:
    """All numbers of the arrays, one array after the other, as pyarrow.FixedSizeListArray of lists
    of `width` numbers."""
    flat = np.concatenate(arrays) if arrays else np.zeros(0, np.float32)
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(flat.astype(np.float32)), width)


def _offsets(lengths: Any) -> Any:
    """Where each list begins in the flat array, and last where the last one ends."""
    return pyarrow.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
