"""The model as three ONNX graphs. B batch, T tokens, P patches, C concepts, K active, D width."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bundle.codes import ACTIVE_ABOVE
from training.core.onnx_file import write_onnx
from training.model.sparse_clip import SparseCLIP

PATCH_CODES_PER_SLICE = 2**20
"""Patch codes per image that exist at a time while they are pooled. All of them could be
256 x 55,296."""

ROW_OUTPUTS = ("indices", "values", "active", "norm", "dense")
PATCH_OUTPUTS = ("patch_indices", "patch_values", "patch_active")


class RowOutputs(NamedTuple):
    """The outputs of every graph, one row per input."""

    indices: Int[Tensor, "B K"]
    values: Float[Tensor, "B K"]
    """Strongest first; 0 in slots beyond the active concepts."""
    active: Int[Tensor, B]
    """Number of active concepts among all C; a row with more than K was cut."""
    norm: Float[Tensor, B]
    """L2 norm of the row before it was cut to K concepts."""
    dense: Float[Tensor, "B D"]


class PatchOutputs(NamedTuple):
    """The outputs of the patch graph: those of a row, and the codes of each patch."""

    indices: Int[Tensor, "B K"]
    values: Float[Tensor, "B K"]
    active: Int[Tensor, B]
    norm: Float[Tensor, B]
    dense: Float[Tensor, "B D"]
    patch_indices: Int[Tensor, "B P Kp"]
    patch_values: Float[Tensor, "B P Kp"]
    patch_active: Int[Tensor, "B P"]


@dataclass(frozen=True, kw_only=True)
class TopK:
    """K for each kind of row: the number of concepts that a graph returns."""

    image: int
    text: int
    patch: int


def _row(codes: Tensor, dense: Tensor, k: int) -> RowOutputs:
    values, indices = codes.topk(k, dim=-1)
    norm = codes.square().sum(dim=-1).sqrt()
    return RowOutputs(indices, values, (codes > ACTIVE_ABOVE).sum(dim=-1), norm, dense)


class ImageGraph(nn.Module):
    """Pixels (B, 3, S, S) to RowOutputs."""

    def __init__(self, model: SparseCLIP, topk: TopK) -> None:
        super().__init__()
        self.model, self.k = model, topk.image

    def forward(self, pixels: Float[Tensor, "B 3 S S"]) -> RowOutputs:
        """The image's codes, cut to its strongest concepts."""
        head, features = self.model.image_head, self.model.image(pixels)
        if self.model.config.pool == "cls":
            dense = head.dense(features.pooled)
            return _row(head.row_codes(dense), dense, self.k)
        patches = head.dense(features.patches)
        # The batch size is unknown while the graph is traced, so slices must not depend on it.
        codes = head.pooled_codes(patches, step=max(1, PATCH_CODES_PER_SLICE // patches.shape[1]))
        return _row(codes, patches.mean(dim=1), self.k)


class TextGraph(nn.Module):
    """Token ids (B, T) to RowOutputs."""

    def __init__(self, model: SparseCLIP, topk: TopK) -> None:
        super().__init__()
        self.model, self.k = model, topk.text

    def forward(self, tokens: Int[Tensor, "B T"]) -> RowOutputs:
        """The text's codes, cut to its strongest concepts."""
        encoded = self.model.encode_text(tokens)
        return _row(encoded.codes, encoded.dense, self.k)


class PatchGraph(nn.Module):
    """Pixels (B, 3, S, S) to PatchOutputs. The tower runs once for the row and its patches."""

    def __init__(self, model: SparseCLIP, topk: TopK) -> None:
        super().__init__()
        self.model, self.k, self.patch_k = model, topk.image, topk.patch

    def forward(self, pixels: Float[Tensor, "B 3 S S"]) -> PatchOutputs:
        """The codes of the image and of its patches, each cut to its strongest concepts."""
        head, features = self.model.image_head, self.model.image(pixels)
        patches = head.dense(features.patches)
        patch_codes = head.codes(patches)
        if self.model.config.pool == "cls":
            dense = head.dense(features.pooled)
            codes = head.row_codes(dense)
        else:
            dense, codes = patches.mean(dim=1), head.cut(patch_codes.mean(dim=1))
        values, indices = patch_codes.topk(self.patch_k, dim=-1)
        active = (patch_codes > ACTIVE_ABOVE).sum(dim=-1)
        return PatchOutputs(*_row(codes, dense, self.k), indices, values, active)


def write_graphs(model: SparseCLIP, topk: TopK, folder: Path, *, half: bool) -> None:
    """Writes image.onnx, text.onnx and patches.onnx, each one file for any batch size.

    With `half`, weights that float16 represents exactly are stored as float16; computation stays in
    float32.
    """
    side, config = model.image.image_size, model.text
    pixels = torch.zeros(2, 3, side, side)
    tokens = torch.zeros(2, config.context_length, dtype=torch.int64)
    jobs: tuple[tuple[str, nn.Module, Tensor, str, tuple[str, ...]], ...] = (
        ("image.onnx", ImageGraph(model, topk), pixels, "pixels", ROW_OUTPUTS),
        ("text.onnx", TextGraph(model, topk), tokens, "tokens", ROW_OUTPUTS),
        ("patches.onnx", PatchGraph(model, topk), pixels, "pixels", ROW_OUTPUTS + PATCH_OUTPUTS),
    )
    for name, graph, example, input_name, outputs in jobs:
        write_onnx(graph.eval(), example, input_name, outputs, folder / name, half=half)
