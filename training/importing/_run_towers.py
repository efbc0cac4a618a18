"""The towers of a dense model that was trained here, as graphs are written of them.

B batch, P patches, T tokens, S image side, D width of the shared space.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from training.model.sparse_clip import SparseCLIP


class ModelFunction(nn.Module):
    """A module whose forward pass is one function of the model."""

    def __init__(self, model: SparseCLIP, encode: Callable[[SparseCLIP, Tensor], Any]) -> None:
        super().__init__()
        self.model, self.encode = model, encode

    def forward(self, inputs: Tensor) -> Any:
        return self.encode(self.model, inputs)


def image_encoder(model: SparseCLIP) -> nn.Module:
    """Pixels (B, 3, S, S) to (B, D)."""
    return ModelFunction(model, _image)


def text_encoder(model: SparseCLIP) -> nn.Module:
    """Token ids (B, T) to (B, D)."""
    return ModelFunction(model, _text)


def patch_encoder(model: SparseCLIP) -> nn.Module:
    """Pixels (B, 3, S, S) to (B, D) and (B, P, D); the tower runs once for both."""
    return ModelFunction(model, _patches)


def _image(model: SparseCLIP, pixels: Float[Tensor, "B 3 S S"]) -> Tensor:
    # Not by encode_image, whose slices depend on the batch size, which a graph leaves open.
    head, features = model.image_head, model.image(pixels)
    if model.config.pool == "patch_mean":
        return head.codes(head.dense(features.patches)).mean(dim=1)
    return head.codes(head.dense(features.pooled))


def _text(model: SparseCLIP, tokens: Int[Tensor, "B T"]) -> Tensor:
    return model.encode_text(tokens).codes


def _patches(model: SparseCLIP, pixels: Float[Tensor, "B 3 S S"]) -> tuple[Tensor, Tensor]:
    head, features = model.image_head, model.image(pixels)
    patches = head.codes(head.dense(features.patches))
    if model.config.pool == "patch_mean":
        return patches.mean(dim=1), patches
    return head.codes(head.dense(features.pooled)), patches
