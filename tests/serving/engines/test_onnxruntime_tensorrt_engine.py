"""What ONNX Runtime's TensorRT provider is told; running it needs a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bundle.store import open_bundle
from serving.engines.base import (
    BuildTask,
    EngineConfig,
    EngineError,
    EngineUnavailableError,
    GraphPlan,
)
from serving.engines.onnxruntime_engine import OnnxRuntimeEngine
from serving.engines.onnxruntime_tensorrt_engine import OnnxRuntimeTensorRtEngine


def test_shapes_are_given_so_that_no_batch_size_builds_another_plan(tiny_bundle: Path) -> None:
    bundle, config = open_bundle(tiny_bundle), EngineConfig(device="cuda", memory_mib=2)
    plan = GraphPlan(precision="bf16", folder=tiny_bundle)
    for graph, shape in (("image", "pixels:{}x3x32x32"), ("text", "tokens:{}x16")):
        (name, options), (cuda, _), cpu = OnnxRuntimeTensorRtEngine._providers(
            config,
            bundle,
            graph,  # type: ignore[arg-type]
            plan,
            captured=True,
        )
        assert (name, cuda) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
        assert cpu == "CPUExecutionProvider"
        sizes = [options[f"trt_profile_{bound}_shapes"] for bound in ("min", "opt", "max")]
        assert sizes == [shape.format(batch) for batch in (1, 32, 256)]
        assert (options["trt_bf16_enable"], options["trt_fp16_enable"]) == (True, False)
        assert options["trt_engine_cache_path"] == str(tiny_bundle)


def test_a_cpu_and_a_mixed_recipe_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match="runs on cuda only"):
        OnnxRuntimeTensorRtEngine.precisions("cpu")
    task = BuildTask(
        bundle=open_bundle(tiny_bundle),
        graph="image",
        device="cuda",
        precision="bf16",
        kept=("head",),
        calibration=None,
        folder=tmp_path,
    )
    with pytest.raises(EngineError, match="keeps no regions"):
        OnnxRuntimeTensorRtEngine.build(task)


@pytest.mark.gpu
def test_a_plan_gives_the_vectors_of_a_cpu(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    config = EngineConfig(name="onnxruntime_tensorrt", device="cuda", precision="fp32")
    try:
        engine = OnnxRuntimeTensorRtEngine.open(bundle, config)
    except EngineUnavailableError as error:
        pytest.skip(str(error))
    reference = OnnxRuntimeEngine.open(bundle, EngineConfig(name="onnxruntime"))
    for count in (1, 3, 300):
        noise = np.random.default_rng(0)
        batch = noise.standard_normal((count, 3, 32, 32), dtype=np.float32)
        expected = reference.run("image", batch).dense
        np.testing.assert_allclose(engine.run("image", batch).dense, expected, atol=1e-3)
    engine.close()
    reference.close()
