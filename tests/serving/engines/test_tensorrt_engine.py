"""TensorRT reads, types and builds a bundle's graphs; without a GPU with tensorrt-rtx.

`make test-tensorrt` installs it. Running a plan needs a GPU: `make test-gpu`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bundle.plugins import PluginError
from bundle.store import open_bundle
from serving.engines import ENGINES, EnginePrecision
from serving.engines.base import (
    BuildTask,
    EngineConfig,
    EngineError,
    EngineUnavailableError,
    GraphPlan,
)

try:
    ENGINE = ENGINES.load("tensorrt")
except PluginError as error:
    pytest.skip(str(error), allow_module_level=True)

from serving.engines._tensorrt_network import TensorRtNetwork  # noqa: E402
from serving.engines._typed_graph import write_typed_graph  # noqa: E402
from serving.engines.onnxruntime_engine import OnnxRuntimeEngine  # noqa: E402


def task(version: Path, precision: EnginePrecision, folder: Path) -> BuildTask:
    return BuildTask(
        bundle=open_bundle(version),
        graph="image",
        device="cuda",
        precision=precision,
        kept=(),
        calibration=None,
        folder=folder,
    )


@pytest.mark.parametrize(("precision", "name"), [("fp16", "HALF"), ("bf16", "BF16")])
def test_layers_have_the_types_of_the_graph(
    precision: EnginePrecision, name: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    """The tiny model has one block: of its products, the scores and the head are in fp32."""
    layers = TensorRtNetwork(write_typed_graph(task(tiny_bundle, precision, tmp_path))).layers()
    assert layers["CONVOLUTION", name] == 1
    assert layers["MATRIX_MULTIPLY", name] > layers["MATRIX_MULTIPLY", "FLOAT"] == 2
    floats = ("SOFTMAX", "NORMALIZATION", "TOPK")
    assert all(layers[kind, "FLOAT"] and not layers[kind, name] for kind in floats)


def test_a_plan_is_all_that_a_build_leaves(tiny_bundle: Path, tmp_path: Path) -> None:
    ENGINE.build(task(tiny_bundle, "bf16", tmp_path))
    [plan] = tmp_path.iterdir()
    assert (plan.name, plan.stat().st_size > 10_000) == ("image.plan", True)


def test_a_file_that_is_no_graph_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "image.onnx").write_bytes(b"no graph")
    with pytest.raises(EngineError, match=r"image\.onnx: TensorRT cannot read it"):
        TensorRtNetwork(tmp_path / "image.onnx")


def test_a_cpu_is_refused() -> None:
    with pytest.raises(EngineUnavailableError, match="runs on cuda only"):
        ENGINE.precisions("cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_plan_gives_the_vectors_of_a_cpu(
    precision: EnginePrecision, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = open_bundle(tiny_bundle)
    ENGINE.build(task(tiny_bundle, precision, tmp_path))
    config = EngineConfig(name="tensorrt", device="cuda", precision=precision)
    plan = GraphPlan(precision=precision, folder=tmp_path)
    engine = ENGINE.open(bundle, config, plans={"image": plan})
    reference = OnnxRuntimeEngine.open(bundle, EngineConfig(name="onnxruntime"))
    noise = np.random.default_rng(0)
    for count in (1, 3, 3, 300):
        batch = noise.standard_normal((count, 3, 32, 32), dtype=np.float32)
        expected = reference.run("image", batch).dense
        tolerance = 1e-4 if precision == "fp32" else 0.05
        np.testing.assert_allclose(engine.run("image", batch).dense, expected, atol=tolerance)
    engine.close()
    reference.close()
