"""The tensors that a model is stored by."""

from __future__ import annotations

from torch import Tensor, nn


def stored_tensors(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and persistent buffers by name. Unlike a state dict it also has those that a
    hook leaves out: the weights of a frozen text encoder (see SentenceTower)."""
    tensors: dict[str, Tensor] = {}
    for path, part in module.named_modules(remove_duplicate=False):
        own = {**part._parameters, **part._buffers}
        for name, tensor in own.items():
            if tensor is not None and name not in part._non_persistent_buffers_set:
                tensors[f"{path}.{name}" if path else name] = tensor
    return tensors
