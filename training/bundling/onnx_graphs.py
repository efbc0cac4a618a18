"""The model as three ONNX graphs. B batch, T tokens, P patches, C concepts, K active, D width."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bundle.codes import ACTIVE_ABOVE
from training.model.sparse_clip import SparseCLIP

if TYPE_CHECKING:
    import onnx
    import onnx_ir

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
            return _row(head.codes(dense), dense, self.k)
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
            codes = head.codes(dense)
        else:
            dense, codes = patches.mean(dim=1), patch_codes.mean(dim=1)
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
        proto = _trace(graph.eval(), example, input_name, outputs)
        _strip(proto)
        if half:
            _store_half(proto)
        (folder / name).write_bytes(proto.SerializeToString(deterministic=True))


def _trace(
    graph: nn.Module, example: Tensor, input_name: str, outputs: tuple[str, ...]
) -> onnx.ModelProto:
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            input_names=[input_name],
            output_names=list(outputs),
            dynamic_shapes={input_name: {0: torch.export.Dim("batch")}},
            verbose=False,
            optimize=False,
        )
        if program is None:
            raise RuntimeError("torch.onnx.export returned no program")
        _fold(program.model)
    return program.model_proto


def _fold(model: onnx_ir.Model) -> None:
    """Does what the exporter's own `optimize` does, except for its rewriting of patterns.

    That would fold each BatchNorm into its convolution, and the product could no longer be stored
    as float16. ONNX Runtime folds them to the same nodes when it loads the graph.
    """
    import onnx_ir.passes.common as passes
    from onnxscript.optimizer import fold_constants_ir

    fold_constants_ir(model)
    for step in (
        passes.RemoveUnusedNodesPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
    ):
        step(model)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter, which prints its progress and warns about its own internals."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _strip(proto: onnx.ModelProto) -> None:
    """Removes the stack traces and file names that the exporter leaves on every node."""
    graph = proto.graph
    for items in (
        [graph],
        graph.node,
        graph.input,
        graph.output,
        graph.value_info,
        graph.initializer,
    ):
        for item in items:
            item.doc_string = ""
            del item.metadata_props[:]
    del proto.metadata_props[:]
    proto.doc_string = ""
    if proto.functions:
        raise RuntimeError("the exporter left functions in the graph")


def _store_half(proto: onnx.ModelProto) -> None:
    """Stores float32 weights as float16, followed by a Cast, where that is exact.

    Runtimes fold the Cast when they load the graph.
    """
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in proto.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        full = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = full.astype(np.float16)
        if full.size < 64 or not np.array_equal(half.astype(np.float32), full):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
