"""What files of safetensors say they hold, read from their headers alone, and their digest, all
without torch."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from training.huggingface.model_error import ModelImportError

READABLE = ("F64", "F32", "F16", "BF16", "I64", "I32", "BOOL")
"""Types of numbers as they are. Integers are positions and counters. A number of 8 bits or fewer
belongs to a quantised model, and means nothing without its scale."""


class StoredWeights(NamedTuple):
    """All files of one model together."""

    tensors: int
    numbers: int


def stored_weights(paths: Sequence[Path]) -> StoredWeights:
    """Raises ModelImportError for a file that is damaged or cut off, and for quantised weights."""
    from safetensors import SafetensorError, safe_open

    tensors = numbers = 0
    for path in paths:
        if not os.access(path, os.R_OK):
            raise ModelImportError(f"weights: you may not read {path.name}")
        try:
            with safe_open(path, framework="np") as file:
                entries = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
                for name, entry in entries.items():
                    if entry.get_dtype() not in READABLE:
                        problem = f"is quantised ({entry.get_dtype()}), and not read"
                        raise ModelImportError(f"weights: {name} {problem}")
                    numbers += math.prod(entry.get_shape())
                tensors += len(entries)
        except (SafetensorError, OSError):
            raise ModelImportError("weights: not a file of safetensors") from None
    return StoredWeights(tensors, numbers)


def check_layers(name: str, section: object, stored: int) -> None:
    """Raises ModelImportError for more layers than there are tensors: to build them would never
    end. `name` is that of the section of a configuration."""
    if not isinstance(section, Mapping):
        return
    for key in ("layers", "num_hidden_layers"):
        value: Any = section.get(key)
        counts = value if isinstance(value, list | tuple) else (value,)
        if any(isinstance(count, int | float) and count > stored for count in counts):
            raise ModelImportError(f"{name}.{key}: {value} layers of {stored} tensors")


def weights_digest(paths: Sequence[Path]) -> str:
    """The sha256 of a file of weights; of several, that of their digests in the order of names."""
    digests = []
    for path in sorted(paths, key=lambda path: path.name):
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
