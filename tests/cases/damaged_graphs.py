"""Graphs of a bundle that must not be served."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.resealing import reseal


def external_tensor(root: Path) -> None:
    """A tensor in another file, its keys in an order that no search for bytes expects."""
    import onnx

    graph = onnx.load(root / "image.onnx")
    tensor = max(graph.graph.initializer, key=lambda t: len(t.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("offset", "0"), ("location", "../../secret")):
        tensor.external_data.add(value=value, key=key)
    (root / "image.onnx").write_bytes(graph.SerializeToString())
    reseal(root)


def added_to_norm(nodes: Callable[[Any], list[Any]]) -> Callable[[Path], None]:
    """The text graph also computes `extra`, a float, and adds it to its output `norm`."""

    def damage(root: Path) -> None:
        import onnx
        from onnx import helper

        model = onnx.load(root / "text.onnx")
        graph = model.graph
        for node in graph.node:
            node.output[:] = ["norm_before" if name == "norm" else name for name in node.output]
            node.input[:] = ["norm_before" if name == "norm" else name for name in node.input]
        graph.node.extend(nodes(helper))
        graph.node.append(helper.make_node("Add", ["norm_before", "extra"], ["norm"]))
        (root / "text.onnx").write_bytes(model.SerializeToString())

    return damage


def endless(helper: Any) -> list[Any]:
    """A loop of 2^62 rounds. Its start depends on the input, so that it is not folded away."""
    import onnx

    number, float_, flag = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes"]),
            helper.make_node("Add", ["before", "before"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", number, []),
            helper.make_tensor_value_info("going", flag, []),
            helper.make_tensor_value_info("before", float_, []),
        ],
        [
            helper.make_tensor_value_info("goes", flag, []),
            helper.make_tensor_value_info("after", float_, []),
        ],
    )
    constant = helper.make_node
    return [
        constant("Constant", [], ["rounds"], value=helper.make_tensor("r", number, [], [2**62])),
        constant("Constant", [], ["yes"], value=helper.make_tensor("y", flag, [], [True])),
        helper.make_node("ReduceSum", ["norm_before"], ["start"], keepdims=0),
        helper.make_node("Loop", ["rounds", "yes", "start"], ["extra"], body=body),
    ]


def hungry(helper: Any) -> list[Any]:
    """A tensor of 16 GiB in a graph of kilobytes."""
    import onnx

    shape = helper.make_tensor("s", onnx.TensorProto.INT64, [2], [2**16, 2**16])
    return [
        helper.make_node("Constant", [], ["shape"], value=shape),
        helper.make_node("ConstantOfShape", ["shape"], ["large"]),
        helper.make_node("ReduceMax", ["large"], ["extra"], keepdims=0),
    ]
