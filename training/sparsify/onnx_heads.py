"""Puts a head behind the graphs of a dense bundle. B batch, P patches, D width, C concepts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bundle.codes import ACTIVE_ABOVE
from bundle.onnx_graph import INPUT, GraphName
from training.bundling.onnx_graphs import TopK
from training.sparsify.heads._tower_head import STEEPNESS, TowerHead
from training.sparsify.heads.base import CodeHead

if TYPE_CHECKING:
    import onnx

SHORTEST = 1e-6
"""Dense vectors that are shorter count as this long, so that a zero vector has no direction."""

MIN_OPSET = 13


class HeadGraphError(ValueError):
    """A graph that no head can be put behind; the message names it."""


@dataclass(frozen=True)
class _HeadPart:
    """One output of the dense graph, and the codes that are made of it."""

    dense: str
    prefix: str
    head: TowerHead
    k: int


def as_served(head: CodeHead) -> CodeHead:
    """A copy in evaluation mode whose weights float16 represents, as a bundle stores them."""
    head = copy.deepcopy(head).eval()
    with torch.no_grad():
        for tower in (head.image, head.text):
            tower.weight.copy_(tower.weight.half().float())
    return head


def write_sparse_graphs(
    head: CodeHead, dense: dict[GraphName, Path], topk: TopK, folder: Path
) -> None:
    """Writes image.onnx, text.onnx and, where the dense model has it, patches.onnx into `folder`.

    `head` is one of `as_served`. Raises HeadGraphError.
    """
    parts: dict[GraphName, Sequence[_HeadPart]] = {
        "image": [_HeadPart("dense", "", head.image, topk.image)],
        "text": [_HeadPart("dense", "", head.text, topk.text)],
        "patches": [
            _HeadPart("dense", "", head.image, topk.image),
            _HeadPart("patch_dense", "patch_", head.image, topk.patch),
        ],
    }
    for name, path in dense.items():
        model = _composed(path, name, parts[name])
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))


def _composed(path: Path, name: GraphName, parts: Sequence[_HeadPart]) -> onnx.ModelProto:
    import onnx
    from onnx import compose

    model = onnx.load_model(path)
    opset = next((entry.version for entry in model.opset_import if not entry.domain), 0)
    if opset < MIN_OPSET:
        raise HeadGraphError(f"{name}.onnx: of opset {opset}; a head needs {MIN_OPSET} or newer")
    # The names of the head's tensors must be free, and those of inputs and outputs must stay.
    model = compose.add_prefix(model, "dense/", rename_inputs=False, rename_outputs=False)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param or "batch"
    weights: dict[int, str] = {}
    for part in parts:
        _append(model.graph, part, batch, weights)
    # `patch_dense` is what the patches' codes are made of, and no output of a sparse model.
    kept = [entry for entry in model.graph.output if entry.name != "patch_dense"]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    if [entry.name for entry in model.graph.input] != [INPUT[name]]:
        raise HeadGraphError(f"{name}.onnx: other inputs than a bundle has")
    onnx.checker.check_model(model)
    return model


def _append(graph: onnx.GraphProto, part: _HeadPart, batch: str, weights: dict[int, str]) -> None:
    """Appends a head's nodes, whose tensors are named after their outputs. Two parts of one head
    share its weights."""
    from onnx import TensorProto, helper, numpy_helper

    at = f"{part.prefix}head/"
    head = part.head

    def node(kind: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> str:
        name = outputs[0]
        graph.node.append(helper.make_node(kind, inputs, outputs, name=name, **attributes))
        return name

    def constant(name: str, value: np.ndarray) -> str:
        graph.initializer.append(numpy_helper.from_array(value, at + name))
        return at + name

    if id(head) not in weights:
        stored = constant("weight.half", head.weight.detach().numpy().T.astype(np.float16))
        weights[id(head)] = node("Cast", [stored], at + "weight", to=TensorProto.FLOAT)
    last = constant("last", np.array([-1], dtype=np.int64))
    bias = constant("bias", (head.bias - head.shift).detach().numpy())
    shortest = constant("shortest", np.array(SHORTEST, dtype=np.float32))
    active_above = constant("active_above", np.array(ACTIVE_ABOVE, dtype=np.float32))
    square = node("Mul", [part.dense, part.dense], at + "square")
    length = node("Sqrt", [node("ReduceSum", [square, last], at + "sum")], at + "length")
    unit = node("Div", [part.dense, node("Max", [length, shortest], at + "scale")], at + "unit")
    product = node("MatMul", [unit, weights[id(head)]], at + "product")
    codes = node("Relu", [node("Add", [product, bias], at + "before")], at + "relu")
    if float(head.threshold) > 0:
        lowest = constant("threshold", head.threshold.numpy())
        steepness = constant("steepness", np.array(STEEPNESS, dtype=np.float32))
        above = node("Sub", [codes, lowest], at + "above")
        rise = node("Mul", [above, steepness], at + "rise")
        codes = node("Relu", [node("Min", [codes, rise], at + "lower")], at + "codes")
    width = constant("k", np.array([part.k], dtype=np.int64))
    values, indices = f"{part.prefix}values", f"{part.prefix}indices"
    node("TopK", [codes, width], values, indices, axis=-1)
    counted = values if head.keep else codes
    fires = node("Greater", [counted, active_above], at + "fires")
    number = node("Cast", [fires], at + "number", to=TensorProto.INT64)
    active = node("ReduceSum", [number, last], f"{part.prefix}active", keepdims=0)
    rank: list[str | int] = [batch] if not part.prefix else [batch, "patches"]
    k_shape = [*rank, part.k]
    outputs: list[tuple[str, int, list[str | int]]] = [
        (indices, TensorProto.INT64, k_shape),
        (values, TensorProto.FLOAT, k_shape),
        (active, TensorProto.INT64, rank),
    ]
    if not part.prefix:
        squares = node("Mul", [counted, counted], at + "squares")
        energy = node("ReduceSum", [squares, last], at + "energy", keepdims=0)
        outputs.append((node("Sqrt", [energy], "norm"), TensorProto.FLOAT, rank))
    graph.output.extend(helper.make_tensor_value_info(*entry) for entry in outputs)
