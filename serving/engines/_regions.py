"""The regions of a graph that a mixed recipe keeps in fp32, found by its structure.

A model of any library has them, whatever its nodes are called:

    head         the last products, which make the codes and the dense vector, and all that follows
    last_block   the products before: as many as a block of a transformer has on its longest path
    norms        normalisation, wherever it is

Products are convolutions and multiplications of matrices, attention's included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from serving.engines.base import Region

Regions = dict[Region, frozenset[str]]

PRODUCTS = frozenset(
    {
        "Attention",
        "Conv",
        "Convolution",
        "Einsum",
        "Gemm",
        "GroupConvolution",
        "MatMul",
        "ScaledDotProductAttention",
    }
)
"""Their names in ONNX and in OpenVINO."""

NORMS = frozenset(
    {
        "BatchNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "MVN",
        "RMSNormalization",
        "SimplifiedLayerNormalization",
    }
)

_HEAD_PRODUCTS = 1
_BLOCK_PRODUCTS = 6
"""Of a transformer: queries, scores, weighted values, their projection, and two of the MLP."""


class GraphNode(NamedTuple):
    """One operation."""

    name: str
    kind: str
    """What it does, as its library calls it: `MatMul`."""
    inputs: tuple[str, ...]
    """Names of the nodes whose outputs it reads."""


def regions(nodes: Sequence[GraphNode]) -> Regions:
    """The names of the nodes in each region. `nodes` are in an order in which each comes after
    those that it reads."""
    # By node: the most products on a path from it to an output, its own included.
    products: dict[str, int] = {}
    for node in reversed(nodes):
        count = products.get(node.name, 0) + (node.kind in PRODUCTS)
        products[node.name] = count
        for name in node.inputs:
            products[name] = max(products.get(name, 0), count)
    # `products` of a node that is no product counts those after it: it belongs to what it feeds.
    head = {node.name for node in nodes if products[node.name] <= _HEAD_PRODUCTS}
    block = {
        node.name
        for node in nodes
        if _HEAD_PRODUCTS < products[node.name] <= _HEAD_PRODUCTS + _BLOCK_PRODUCTS
    }
    return {
        "head": frozenset(head),
        "last_block": frozenset(block),
        "norms": frozenset(node.name for node in nodes if node.kind in NORMS),
    }


def onnx_regions(model: Any) -> Regions:
    """The regions of an `onnx.ModelProto`, by the names of its nodes; a node that has none goes by
    the name of its first output."""
    makers = {output: node for node in model.graph.node for output in node.output}

    def name(node: Any) -> str:
        return str(node.name or node.output[0])

    return regions(
        [
            GraphNode(
                name(node),
                node.op_type,
                tuple(name(makers[entry]) for entry in node.input if entry in makers),
            )
            for node in model.graph.node
        ]
    )
