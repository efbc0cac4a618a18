"""Files of weights: their digest, and tensors that must fit a model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from training.importing.base import ModelImportError

if TYPE_CHECKING:
    from torch import Tensor, nn


def weights_digest(paths: Sequence[Path]) -> str:
    """The sha256 of a file of weights; of several, that of their digests in the order of names."""
    digests = []
    for path in sorted(paths, key=lambda path: path.name):
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def load_fitting(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Loads weights that have exactly the names and shapes of the model's.

    Raises ModelImportError, naming the first tensor that is missing, unknown or of another shape.
    """
    wanted = model.state_dict()
    for name in wanted:
        if name not in weights:
            raise ModelImportError(f"weights: {name} is missing")
    for name, tensor in weights.items():
        if name not in wanted:
            raise ModelImportError(f"weights: {name} is not a tensor of this architecture")
        if tensor.shape != wanted[name].shape:
            shape, expected = tuple(tensor.shape), tuple(wanted[name].shape)
            raise ModelImportError(f"weights: {name} has the shape {shape}, not {expected}")
    model.load_state_dict(dict(weights))
