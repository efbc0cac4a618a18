"""A torch module as one ONNX file, without the optimiser's rewriting and without traces of where it
was written."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import onnx
    import onnx_ir

MAX_WEIGHT_BYTES = 2**31 - 2**24
"""A protobuf message, which an ONNX file is, holds less than 2 GiB. The rest is for its nodes."""


class GraphTooLargeError(ValueError):
    """A model whose weights do not fit one ONNX file."""


def write_onnx(
    graph: nn.Module,
    example: Tensor,
    input_name: str,
    outputs: tuple[str, ...],
    path: Path,
    *,
    half: bool,
) -> None:
    """Writes a module of one input, whose first dimension is the batch, for any batch size.

    With `half`, weights that float16 represents exactly are stored as float16; computation stays in
    float32. Raises GraphTooLargeError for a module whose weights take 2 GiB as they are stored.
    """
    proto = _trace(graph, example, input_name, outputs, half)
    _strip(proto)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _trace(
    graph: nn.Module, example: Tensor, input_name: str, outputs: tuple[str, ...], half: bool
) -> onnx.ModelProto:
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            input_names=[input_name],
            output_names=list(outputs),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
            optimize=False,
        )
        if program is None:
            raise RuntimeError("torch.onnx.export returned no program")
        _fold(program.model)
        if half:
            _store_half(program.model)
        weights = program.model.graph.initializers.values()
        if sum(w.const_value.nbytes for w in weights if w.const_value) > MAX_WEIGHT_BYTES:
            raise GraphTooLargeError(
                f"over 2 GiB in {'float16' if half else 'float32'}, which no ONNX file holds"
            )
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


def _store_half(model: onnx_ir.Model) -> None:
    """Stores float32 weights as float16, followed by a Cast, where that is exact.

    Runtimes fold the Cast when they load the graph.
    """
    import onnx_ir as ir

    casts = []
    for name, value in list(model.graph.initializers.items()):
        if value.const_value is None or value.const_value.dtype != ir.DataType.FLOAT:
            continue
        full = value.const_value.numpy()
        with np.errstate(over="ignore"):
            half = full.astype(np.float16)
        if full.size < 64 or not np.array_equal(half.astype(np.float32), full):
            continue
        stored = ir.Value(
            name=f"{name}.half",
            shape=value.shape,
            type=ir.TensorType(ir.DataType.FLOAT16),
            const_value=ir.tensor(half, name=f"{name}.half"),
        )
        del model.graph.initializers[name]
        value.const_value = None
        model.graph.register_initializer(stored)
        to = ir.AttrInt64("to", ir.DataType.FLOAT)
        casts.append(ir.Node("", "Cast", [stored], [to], outputs=[value]))
    if casts:
        model.graph.insert_before(model.graph[0], casts)
