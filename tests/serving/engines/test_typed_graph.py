"""A typed graph has its large products in low precision, and the rest in fp32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest
from numpy.typing import NDArray

from bundle.onnx_graph import OUTPUTS, GraphName, OnnxGraph
from bundle.store import Bundle, open_bundle
from serving.engines import EnginePrecision
from serving.engines._regions import NORMS, onnx_regions
from serving.engines._typed_graph import write_typed_graph
from serving.engines.base import BuildTask, Region
from tests.support.paths import ROOT

TENSOR_TYPE = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
PRODUCTS = {"Conv", "Gemm", "MatMul"}


def typed(
    bundle: Bundle,
    graph: GraphName,
    precision: EnginePrecision,
    folder: Path,
    kept: tuple[Region, ...] = (),
) -> Path:
    task = BuildTask(
        bundle=bundle,
        graph=graph,
        device="cpu",
        precision=precision,
        kept=kept,
        calibration=None,
        folder=folder,
    )
    return write_typed_graph(task)


def inputs(bundle: Bundle, graph: GraphName) -> NDArray[Any]:
    if graph == "text":
        return bundle.tokenizer.encode(["a dog", "red", "a blue square"])
    side = bundle.manifest.preprocessing.size
    return np.random.default_rng(0).normal(size=(3, 3, side, side)).astype(np.float32)


def cosines(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    products: NDArray[Any] = (a * b).sum(1)
    return products / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(params=["tiny", "demo"])
def bundle(request: pytest.FixtureRequest, tiny_bundle: Path) -> Bundle:
    demo = ROOT / "models" / "demo"
    version = demo / (demo / "CURRENT").read_text().strip()
    return open_bundle(tiny_bundle if request.param == "tiny" else version)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_scores_softmax_norms_and_head_are_fp32_and_other_products_are_not(
    bundle: Bundle, precision: EnginePrecision, tmp_path: Path
) -> None:
    for graph in bundle.graphs:
        model = onnx.load(typed(bundle, graph, precision, tmp_path))
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, check_type=True)
        tensors = (*inferred.graph.value_info, *inferred.graph.output)
        types = {entry.name: entry.type.tensor_type.elem_type for entry in tensors}
        outputs = {entry.name: types[entry.name] for entry in inferred.graph.output}
        assert set(outputs.values()) == {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
        head = onnx_regions(model)["head"]
        makers = {output: node for node in model.graph.node for output in node.output}
        softmaxes = [node for node in model.graph.node if node.op_type == "Softmax"]
        scores = {first_product(makers, node.input[0]) for node in softmaxes}
        counts = dict.fromkeys(("low", "scores", "fp32"), 0)
        for node in model.graph.node:
            kind = types[node.output[0]]
            in_fp32 = node.op_type in NORMS | {"Softmax", "TopK", "Sqrt", "ReduceSum"}
            if node.op_type in PRODUCTS and node.name not in head | scores:
                assert kind == TENSOR_TYPE[precision], node.name
                counts["low"] += 1
            elif node.op_type in PRODUCTS or in_fp32:
                assert kind in (onnx.TensorProto.FLOAT, onnx.TensorProto.INT64), node.name
                counts["scores" if node.name in scores else "fp32"] += 1
        assert (counts["scores"] == len(softmaxes), counts["low"] > 4, counts["fp32"] > 3) == (
            True,
            True,
            True,
        )
        assert {path.name for path in tmp_path.iterdir()} <= {f"{name}.onnx" for name in OUTPUTS}


def first_product(makers: dict[str, Any], name: str) -> str:
    """The product whose result reaches a tensor by way of first inputs."""
    node = makers[name]
    return node.name if node.op_type == "MatMul" else first_product(makers, node.input[0])


def test_fp16_gives_the_codes_of_fp32(bundle: Bundle, tmp_path: Path) -> None:
    concepts = bundle.manifest.architecture.concepts
    for graph in bundle.graphs:
        batch = inputs(bundle, graph)
        path = typed(bundle, graph, "fp16", tmp_path)
        expected = OnnxGraph(bundle.file(f"{graph}.onnx"), graph, threads=1).codes(batch, concepts)
        codes = OnnxGraph(path, graph, threads=1).codes(batch, concepts)
        assert cosines(expected, codes).min() > 0.9998
        assert not np.array_equal(expected, codes)


def test_bf16_gives_the_codes_of_fp32_in_the_reference_of_onnx(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = open_bundle(tiny_bundle)
    batch = inputs(bundle, "image")
    expected = OnnxGraph(bundle.file("image.onnx"), "image", threads=1).codes(batch, 256)
    path = typed(bundle, "image", "bf16", tmp_path)
    evaluator = onnx.reference.ReferenceEvaluator(str(path))
    values, indices = map(np.asarray, evaluator.run(["values", "indices"], {"pixels": batch}))
    codes = np.zeros_like(expected)
    np.put_along_axis(codes, indices, values, axis=1)
    assert cosines(expected, codes).min() > 0.998
    assert not np.array_equal(expected, codes)


def test_a_kept_block_is_in_fp32(tiny_bundle: Path, tmp_path: Path) -> None:
    """Of the six products of the last block, the scores are in fp32 already."""
    bundle, counts = open_bundle(tiny_bundle), []
    kept: tuple[Region, ...]
    for kept in ((), ("last_block",)):
        model = onnx.load(typed(bundle, "image", "fp16", tmp_path, kept))
        products = [node for node in model.graph.node if node.op_type in PRODUCTS]
        counts.append(sum(node.output[0].endswith(".low") for node in products))
    assert counts[0] - counts[1] == 5
