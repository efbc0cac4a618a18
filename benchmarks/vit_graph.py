"""The image graph of a ViT with a sparse head, written node by node, with random weights.

It needs numpy and onnx alone, so it can be made on a machine that holds no model and no exporter.
Its nodes are those that the export writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bundle.onnx_graph import ROW_OUTPUTS

TOPK = 256
ACTIVE_BIAS = -2.0
"""Of the head: about 2% of the concepts are active."""


@dataclass(frozen=True, kw_only=True)
class VitGeometry:
    """The sizes of a vision tower."""

    side: int = 224
    patch: int
    width: int
    layers: int
    heads: int
    dim: int
    """D."""

    @property
    def tokens(self) -> int:
        """Patches and the class token."""
        return (self.side // self.patch) ** 2 + 1

    def flops(self, concepts: int) -> float:
        """Multiplications and additions for one image, products alone. 0 `concepts` is no head."""
        patches = (self.tokens - 1) * 3 * self.patch**2 * self.width
        block = 12 * self.tokens * self.width**2 + 2 * self.tokens**2 * self.width
        return 2.0 * (patches + self.layers * block + self.width * self.dim + self.dim * concepts)


VITS = {
    "vit_b32": VitGeometry(patch=32, width=768, layers=12, heads=12, dim=512),
    "vit_l14": VitGeometry(patch=14, width=1_024, layers=24, heads=16, dim=768),
    "small": VitGeometry(side=32, patch=8, width=64, layers=2, heads=4, dim=32),
}


class _Graph:
    """Nodes and weights that are added one after another."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._noise = np.random.default_rng(seed)

    def node(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node. Returns the name of its output, or the names."""
        names = [f"{kind}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, names[0], **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, values: NDArray[Any]) -> str:
        """Adds a weight as it is."""
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def ints(self, *values: int) -> str:
        """Adds a list of whole numbers."""
        return self.constant(np.array(values, dtype=np.int64))

    def random(self, *shape: int, scale: float) -> str:
        """Adds random weights."""
        return self.constant(self._noise.standard_normal(shape, dtype=np.float32) * scale)

    def product(self, value: str, rows: int, columns: int, gain: float = 1.0) -> str:
        """A product with random weights, and a bias."""
        weights = self.random(rows, columns, scale=gain * rows**-0.5)
        return str(
            self.node("Add", self.node("MatMul", value, weights), self.random(columns, scale=0.02))
        )

    def norm(self, value: str, width: int) -> str:
        """Layer normalisation."""
        scale = self.constant(np.ones(width, np.float32))
        bias = self.constant(np.zeros(width, np.float32))
        return str(self.node("LayerNormalization", value, scale, bias, axis=-1, epsilon=1e-5))


def write_vit(path: Path, geometry: VitGeometry, concepts: int, seed: int = 0) -> None:
    """Writes an image graph as a bundle has it; with 0 `concepts`, that of a dense model."""
    graph = _Graph(seed)
    width, heads = geometry.width, geometry.heads
    kernel = graph.random(width, 3, geometry.patch, geometry.patch, scale=0.02)
    value = graph.node("Conv", "pixels", kernel, strides=[geometry.patch] * 2)
    value = graph.node("Reshape", value, graph.ints(0, width, -1))
    value = graph.node("Transpose", value, perm=[0, 2, 1])
    batch = graph.node("Shape", "pixels", start=0, end=1)
    sizes = graph.node("Concat", batch, graph.ints(1, width), axis=0)
    token = graph.node("Expand", graph.random(1, 1, width, scale=0.02), sizes)
    value = graph.node("Concat", token, value, axis=1)
    value = graph.node("Add", value, graph.random(geometry.tokens, width, scale=0.02))
    value = graph.norm(value, width)
    for _ in range(geometry.layers):
        value = graph.node("Add", value, _attention(graph, graph.norm(value, width), width, heads))
        hidden = graph.product(graph.norm(value, width), width, 4 * width)
        hidden = graph.product(graph.node("Gelu", hidden), 4 * width, width, 0.5)
        value = graph.node("Add", value, hidden)
    pooled = graph.node("Gather", value, graph.constant(np.array(0, dtype=np.int64)), axis=1)
    weights = graph.random(width, geometry.dim, scale=width**-0.5)
    dense = graph.node("MatMul", graph.norm(pooled, width), weights)
    outputs = {"dense": dense}
    if concepts:
        outputs |= _head(graph, dense, geometry.dim, concepts)
    names = [name for name in ROW_OUTPUTS if name in outputs]
    shapes: dict[str, list[int]] = {"active": [], "norm": [], "dense": [geometry.dim]}
    infos = []
    for name in names:
        graph.nodes.append(helper.make_node("Identity", [outputs[name]], [name], name))
        kind = TensorProto.INT64 if name in ("indices", "active") else TensorProto.FLOAT
        rest = shapes.get(name, [min(TOPK, concepts)])
        shape: list[str | int | None] = ["batch", *rest]
        infos.append(helper.make_tensor_value_info(name, kind, shape))
    pixels: list[str | int | None] = ["batch", 3, geometry.side, geometry.side]
    entry = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, pixels)
    made = helper.make_graph(graph.nodes, "image", [entry], infos, graph.weights)
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(made, opset_imports=[opset], ir_version=10), path)


def _attention(graph: _Graph, value: str, width: int, heads: int) -> str:
    joined = graph.product(value, width, 3 * width)
    split = graph.node("Reshape", joined, graph.ints(0, 0, 3, heads, width // heads))
    split = graph.node("Transpose", split, perm=[2, 0, 3, 1, 4])
    parts = (graph.constant(np.array(i, dtype=np.int64)) for i in range(3))
    queries, keys, values = (graph.node("Gather", split, part, axis=0) for part in parts)
    scale = graph.constant(np.array([(width // heads) ** -0.25], dtype=np.float32))
    queries = graph.node("Mul", queries, scale)
    keys = graph.node("Mul", graph.node("Transpose", keys, perm=[0, 1, 3, 2]), scale)
    weights = graph.node("Softmax", graph.node("MatMul", queries, keys), axis=-1)
    mixed = graph.node("Transpose", graph.node("MatMul", weights, values), perm=[0, 2, 1, 3])
    return graph.product(graph.node("Reshape", mixed, graph.ints(0, 0, width)), width, width, 0.5)


def _head(graph: _Graph, dense: str, dim: int, concepts: int) -> dict[str, str]:
    weights = graph.random(concepts, dim, scale=dim**-0.5)
    bias = graph.constant(np.full(concepts, ACTIVE_BIAS, np.float32))
    codes = graph.node("Relu", graph.node("Gemm", dense, weights, bias, transB=1))
    count = graph.ints(min(TOPK, concepts))
    values, indices = graph.node("TopK", codes, count, outputs=2, axis=-1)
    last = graph.ints(1)
    squares = graph.node("Pow", codes, graph.constant(np.array(2.0, dtype=np.float32)))
    norm = graph.node("Sqrt", graph.node("ReduceSum", squares, last, keepdims=0))
    is_active = graph.node("Greater", codes, graph.constant(np.array(0.0, dtype=np.float32)))
    is_active = graph.node("Cast", is_active, to=TensorProto.INT64)
    active = graph.node("ReduceSum", is_active, last, keepdims=0)
    return {"indices": indices, "values": values, "active": active, "norm": norm}
