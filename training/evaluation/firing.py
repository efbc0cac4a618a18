"""Which images fire a concept, and which concepts an image fires, the strongest first.

N images, C concepts. Few of the N x C codes are not zero, so all of this is done on sparse codes:
sorting dense ones takes most of a minute for the demo's 33,533 training images.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bundle.codes import ACTIVE_ABOVE
from training.evaluation.metrics import Floats

_ROWS_PER_BLOCK = 1024
"""Rows of dense codes that are looked through at a time, so that copies stay in the cache."""


def sparse_codes(codes: Floats) -> sparse.csr_array:
    """Codes (N, C) where they fire, each row's concepts in ascending order."""
    indices, values = [], []
    counts = np.zeros(len(codes) + 1, dtype=np.int64)
    for start in range(0, len(codes), _ROWS_PER_BLOCK):
        block = codes[start : start + _ROWS_PER_BLOCK]
        counts[start + 1 : start + 1 + len(block)] = (block > ACTIVE_ABOVE).sum(axis=1)
        flat = block.ravel()
        fires = np.flatnonzero(flat > ACTIVE_ABOVE)
        indices.append((fires % codes.shape[1]).astype(np.int32))
        values.append(flat[fires])
    empty = np.zeros(0, dtype=codes.dtype)
    parts = (
        np.concatenate([empty, *values]),
        np.concatenate([empty.astype(np.int32), *indices]),
        np.cumsum(counts),
    )
    return sparse.csr_array(parts, shape=codes.shape)


def norms(codes: Floats) -> Floats:
    """The lengths (N,) of codes (N, C)."""
    starts = range(0, len(codes), _ROWS_PER_BLOCK)
    blocks = [np.linalg.norm(codes[start : start + _ROWS_PER_BLOCK], axis=1) for start in starts]
    result: Floats = np.concatenate([np.zeros(0, dtype=codes.dtype), *blocks])
    return result


def strongest(codes: sparse.csr_array | sparse.csc_array, count: int) -> list[NDArray[np.int64]]:
    """For each row of CSR codes its `count` strongest concepts, and for each column of CSC codes
    its `count` strongest images. Strongest first and equal ones in ascending order. Codes have no
    zeros, so there may be fewer."""
    result = []
    for start, end in pairwise(codes.indptr.tolist()):
        order = np.argsort(-codes.data[start:end], kind="stable")[:count]
        result.append(codes.indices[start:end][order].astype(np.int64))
    return result
