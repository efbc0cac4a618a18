"""ONNX Runtime with its TensorRT provider: TensorRT runs what it can of a graph, CUDA the rest.

It needs onnxruntime-gpu and the libraries of TensorRT 10. TensorRT chooses which layers run in low
precision, unlike in the engine `tensorrt`, where the graph says so: the parity gate decides whether
that will do.
"""

from __future__ import annotations

from typing import Any, ClassVar

from bundle.onnx_graph import INPUT, GraphName, OnnxGraph, import_onnxruntime
from bundle.store import Bundle
from serving.engines import Device, EnginePrecision
from serving.engines._batch_parts import BATCH_SIZES
from serving.engines._hardware import cuda_precisions
from serving.engines._onnxruntime_cuda import cuda_provider
from serving.engines.base import (
    BuildTask,
    EngineConfig,
    EngineError,
    EngineUnavailableError,
    GraphPlan,
    describe_engine,
)
from serving.engines.onnxruntime_engine import OnnxRuntimeEngine

OPTIMAL_BATCH = 32
"""The batch size that TensorRT chooses kernels for; all from 1 to the last of BATCH_SIZES run."""


class OnnxRuntimeTensorRtEngine(OnnxRuntimeEngine):
    """The graphs of a bundle on a CUDA device, through TensorRT."""

    _provider: ClassVar[str] = "TensorrtExecutionProvider"

    @classmethod
    def precisions(cls, device: Device) -> tuple[EnginePrecision, ...]:
        """See Engine.precisions."""
        cls._check(EngineConfig(device=device))
        return cuda_precisions()

    @classmethod
    def build(cls, task: BuildTask) -> None:
        """See Engine.build. Leaves TensorRT's plan and timings in the folder; takes minutes."""
        if task.kept:
            raise EngineError("engine.precision: TensorRT in onnxruntime keeps no regions in fp32")
        config = EngineConfig(device=task.device, precision=task.precision)
        plan = GraphPlan(precision=task.precision, folder=task.folder)
        providers = cls._providers(config, task.bundle, task.graph, plan, captured=False)
        try:
            # A session whose shapes are known builds its plan before its first run.
            path = task.bundle.file(f"{task.graph}.onnx")
            OnnxGraph(path, task.graph, providers=providers, sparse=task.bundle.is_sparse)
        except Exception as error:  # onnxruntime has a class of its own for each failure
            raise EngineError(f"{task.graph}.onnx: {error}") from error

    @classmethod
    def describe(cls, config: EngineConfig) -> str:
        """See Engine.describe."""
        cls._check(config)
        return describe_engine("onnxruntime-tensorrt", import_onnxruntime().__version__, config)

    @classmethod
    def _check(cls, config: EngineConfig) -> None:
        if config.device == "cpu":
            raise EngineUnavailableError("engine.device: onnxruntime_tensorrt runs on cuda only")
        if cls._provider not in import_onnxruntime().get_available_providers():
            raise EngineUnavailableError("engine.device: this onnxruntime has no TensorRT")

    @classmethod
    def _providers(
        cls, config: EngineConfig, bundle: Bundle, graph: GraphName, plan: GraphPlan, captured: bool
    ) -> tuple[Any, ...]:
        side = bundle.manifest.preprocessing.size
        rest = bundle.tokenizer.encode(["a"]).shape[1:] if graph == "text" else (3, side, side)

        def profile(batch: int) -> str:
            return f"{INPUT[graph]}:{'x'.join(map(str, (batch, *rest)))}"

        options = {
            "trt_bf16_enable": plan.precision == "bf16",
            "trt_fp16_enable": plan.precision == "fp16",
            "trt_cuda_graph_enable": captured,
            # Without them, each new batch size would build another plan.
            "trt_profile_min_shapes": profile(1),
            "trt_profile_opt_shapes": profile(OPTIMAL_BATCH),
            "trt_profile_max_shapes": profile(BATCH_SIZES[-1]),
        }
        if plan.folder:
            options |= {
                "trt_engine_cache_enable": True,
                "trt_engine_cache_path": str(plan.folder),
                "trt_engine_cache_prefix": graph,
                "trt_timing_cache_enable": True,
                "trt_timing_cache_path": str(plan.folder),
            }
        return ((cls._provider, options), *cuda_provider(config, captured=False))
