"""torch runs the graphs of a bundle: node by node, and as a compiled package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from bundle.onnx_graph import DENSE_OUTPUTS, OUTPUTS, GraphName, OnnxGraph
from bundle.store import Bundle, open_bundle
from serving.engines import Device, EnginePrecision
from serving.engines._torch_graph import TorchGraph
from serving.engines._typed_graph import simplified, write_typed_graph
from serving.engines.base import BuildTask, EngineConfig, EngineError, GraphPlan
from serving.engines.torch_engine import TorchEngine
from tests.support.paths import ROOT


def demo_bundle() -> Path:
    demo = ROOT / "models" / "demo"
    return demo / (demo / "CURRENT").read_text().strip()


def task(
    bundle: Bundle,
    graph: GraphName,
    precision: EnginePrecision,
    folder: Path,
    device: Device = "cpu",
) -> BuildTask:
    return BuildTask(
        bundle=bundle,
        graph=graph,
        device=device,
        precision=precision,
        kept=(),
        calibration=None,
        folder=folder,
    )


def inputs(bundle: Bundle, graph: GraphName, count: int = 3) -> NDArray[Any]:
    if graph == "text":
        return bundle.tokenizer.encode(["a dog", "red", "a blue square"][:count])
    side = bundle.manifest.preprocessing.size
    return np.random.default_rng(0).normal(size=(count, 3, side, side)).astype(np.float32)


def outputs(bundle: Bundle, graph: GraphName) -> tuple[str, ...]:
    return (OUTPUTS if bundle.is_sparse else DENSE_OUTPUTS)[graph]


def reference(bundle: Bundle, graph: GraphName, batch: NDArray[Any]) -> dict[str, NDArray[Any]]:
    path = bundle.file(f"{graph}.onnx")
    return OnnxGraph(path, graph, threads=1, sparse=bundle.is_sparse).run(batch)


@pytest.mark.parametrize("kind", ["tiny", "dense", "demo"])
def test_the_nodes_of_a_graph_give_what_onnxruntime_gives(
    kind: str, tiny_bundle: Path, dense_bundle: Path, tmp_path: Path
) -> None:
    bundle = open_bundle({"tiny": tiny_bundle, "dense": dense_bundle, "demo": demo_bundle()}[kind])
    for graph in bundle.graphs:
        names, batch = outputs(bundle, graph), inputs(bundle, graph)
        module = TorchGraph(onnx, simplified(bundle.file(f"{graph}.onnx"), tmp_path), names)
        with torch.inference_mode():
            arrays = dict(zip(names, module(torch.from_numpy(batch)), strict=True))
        for name, expected in reference(bundle, graph, batch).items():
            if "indices" not in name:  # of slots that are not used, any index is right
                np.testing.assert_allclose(arrays[name], expected, rtol=1e-4, atol=1e-5)


def test_a_typed_graph_runs_in_bf16(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    batch = inputs(bundle, "image")
    typed = onnx.load(write_typed_graph(task(bundle, "image", "bf16", tmp_path)))
    with torch.inference_mode():
        [dense] = TorchGraph(onnx, typed, ("dense",))(torch.from_numpy(batch))
    expected = reference(bundle, "image", batch)["dense"]
    assert dense.dtype == torch.float32
    assert 1e-5 < np.abs(dense.numpy() - expected).max() / np.abs(expected).max() < 0.05


def test_an_operation_that_torch_does_not_run_is_named(tiny_bundle: Path, tmp_path: Path) -> None:
    model = simplified(open_bundle(tiny_bundle).file("text.onnx"), tmp_path)
    next(node for node in model.graph.node if node.op_type == "Softmax").op_type = "LogSoftmax"
    with pytest.raises(EngineError, match="torch does not run LogSoftmax"):
        TorchGraph(onnx, model, ("dense",))


@pytest.mark.soak
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_package_gives_what_onnxruntime_gives(
    precision: EnginePrecision, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = open_bundle(tiny_bundle)
    TorchEngine.build(task(bundle, "text", precision, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["text.pt2"]
    config = EngineConfig(name="torch", precision=precision, threads=1)
    plan = GraphPlan(precision=precision, folder=tmp_path)
    engine = TorchEngine.open(bundle, config, 1, {"text": plan})
    for count in (1, 3):
        batch = inputs(bundle, "text", count)
        expected = reference(bundle, "text", batch)["dense"]
        tolerance = 1e-5 if precision == "fp32" else 0.05
        np.testing.assert_allclose(engine.run("text", batch).dense, expected, atol=tolerance)
    engine.close()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_package_on_a_gpu_gives_what_a_cpu_gives(
    precision: EnginePrecision, tiny_bundle: Path, tmp_path: Path
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    bundle = open_bundle(tiny_bundle)
    TorchEngine.build(task(bundle, "image", precision, tmp_path, "cuda"))
    config = EngineConfig(name="torch", device="cuda", precision=precision)
    plan = GraphPlan(precision=precision, folder=tmp_path)
    engine = TorchEngine.open(bundle, config, 1, {"image": plan})
    for count in (1, 3, 3, 300):
        batch = inputs(bundle, "image", count)
        expected = reference(bundle, "image", batch)["dense"]
        tolerance = 1e-3 if precision == "fp32" else 0.05
        np.testing.assert_allclose(engine.run("image", batch).dense, expected, atol=tolerance)
    engine.close()
