"""Files of weights: their tensors, and that these fit a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.huggingface.model_error import ModelImportError

if TYPE_CHECKING:
    from torch import Tensor, nn

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
"""Files that `read_weights` reads: safetensors, and those that torch.save wrote."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by name.

    A training script's file may hold them below `state_dict`, and its names may begin with
    `module.`. A file that torch.save wrote is unpickled by torch's own reader of tensors, which
    runs no code of the file (`weights_only`); this is the one place of the project that does so.
    Raises ModelImportError.
    """
    import torch
    from safetensors.torch import load_file

    if path.suffix not in SUFFIXES:
        raise ModelImportError(f"weights: must be a file of {', '.join(SUFFIXES)}")
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # neither reader has a class of errors of its own
        raise ModelImportError(
            f"weights: {path.name} cannot be read; it is damaged, or holds more than tensors"
        ) from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise ModelImportError(f"weights: {path.name} holds no tensors by name")
    tensors = {str(name).removeprefix("module."): value for name, value in content.items()}
    for name, value in tensors.items():
        if not isinstance(value, torch.Tensor):
            raise ModelImportError(f"weights: {name} is not a tensor")
    return tensors


def load_fitting(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Loads weights that fit (see `check_fitting`). Raises ModelImportError, also for numbers that
    are not finite."""
    check_fitting(model, weights)
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ModelImportError(f"weights: {name} has values that are not finite")
    model.load_state_dict(dict(weights))


def check_fitting(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Checks that weights have exactly the names and shapes of the model's, which may be on torch's
    device `meta`. Raises ModelImportError, naming the first tensor that is missing, unknown, of
    another shape, or quantised."""
    expected = model.state_dict()
    for name in expected:
        if name not in weights:
            raise ModelImportError(f"weights: {name} is missing")
    for name, tensor in weights.items():
        if name not in expected:
            raise ModelImportError(f"weights: {name} is not a tensor of this architecture")
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}, not {tuple(expected[name].shape)}"
            raise ModelImportError(f"weights: {name} has the shape {shapes}")
        floats = tensor.is_floating_point() and tensor.element_size() > 1
        if expected[name].is_floating_point() and not floats:
            raise ModelImportError(f"weights: {name} is quantised ({tensor.dtype}), and not read")
