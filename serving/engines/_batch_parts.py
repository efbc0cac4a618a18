"""Batches in the sizes for which an engine has buffers, shapes and CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Sizes that a batch is padded to. A larger batch runs in parts of the last one."""


def run_in_parts(
    run: Callable[[NDArray[Any], int], dict[str, NDArray[Any]]], inputs: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    """Runs parts of a batch of inputs (B, ...), and joins their outputs.

    `run` gets a part and the size of BATCH_SIZES that it is padded to; it returns the part's rows.
    """
    parts = []
    for start in range(0, len(inputs), BATCH_SIZES[-1]):
        part = inputs[start : start + BATCH_SIZES[-1]]
        parts.append(run(part, next(size for size in BATCH_SIZES if size >= len(part))))
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
