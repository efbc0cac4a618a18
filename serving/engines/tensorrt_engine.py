"""TensorRT through its own API, of `tensorrt` or `tensorrt_rtx`: a plan for each graph."""

from __future__ import annotations

import importlib
from contextlib import ExitStack
from typing import Any, Self

from numpy.typing import NDArray

from bundle.onnx_graph import DENSE_OUTPUTS, INPUT, OUTPUTS, GraphName
from bundle.store import Bundle
from serving.engines import Device, EnginePrecision
from serving.engines._built_folder import built_folder
from serving.engines._cuda_runtime import check_device
from serving.engines._hardware import cuda_precisions, hardware
from serving.engines._tensorrt_lanes import Streams, TensorRtModel
from serving.engines._tensorrt_library import trt
from serving.engines._tensorrt_network import TensorRtNetwork
from serving.engines._typed_graph import simplified, write_typed_graph
from serving.engines.base import (
    BuildTask,
    EngineConfig,
    EngineError,
    EngineOutput,
    EngineUnavailableError,
    OutOfMemoryError,
    Plans,
    describe_engine,
    fp32_plans,
)

_LANES = 2
"""Runs of a graph at the same time: one's copies beside the other's kernels."""


class TensorRtEngine:
    """The graphs of a bundle on a CUDA device."""

    def __init__(
        self,
        models: dict[GraphName, TensorRtModel],
        streams: Streams,
        description: str,
        runs: int,
    ) -> None:
        self._streams = streams
        self._models = models
        self.description = description
        self.runs = runs

    @classmethod
    def precisions(cls, device: Device) -> tuple[EnginePrecision, ...]:
        """See Engine.precisions."""
        _check_device(device)
        return cuda_precisions()

    @classmethod
    def needs_calibration(cls, precision: EnginePrecision) -> bool:
        """See Engine.needs_calibration."""
        return False

    @classmethod
    def identity(cls, device: Device) -> str:
        """See Engine.identity."""
        _check_device(device)
        return f"{trt.__name__} {trt.__version__}, {hardware(device)}"

    @classmethod
    def build(cls, task: BuildTask) -> None:
        """See Engine.build. Writes GRAPH.plan; tensorrt_rtx needs no device for that."""
        path = task.folder / f"{task.graph}.onnx"
        if task.precision == "fp32":
            onnx = importlib.import_module("onnx")
            source = task.bundle.file(f"{task.graph}.onnx")
            onnx.save(simplified(source, task.folder), path)
        else:
            write_typed_graph(task)
        try:
            plan = TensorRtNetwork(path).plan()
        finally:
            path.unlink()
        (task.folder / f"{task.graph}.plan").write_bytes(plan)

    @classmethod
    def open(
        cls, bundle: Bundle, config: EngineConfig, cores: int = 0, plans: Plans | None = None
    ) -> Self:
        """See Engine.open. Builds what has no plan, which takes minutes."""
        description = cls.describe(config)
        runs, streams = config.runs or _LANES, Streams()
        models: dict[GraphName, TensorRtModel] = {}
        with ExitStack() as stack:
            for graph, plan in (plans or fp32_plans(bundle)).items():
                folder = built_folder(cls, bundle, config, graph, plan, stack)
                outputs = (OUTPUTS if bundle.is_sparse else DENSE_OUTPUTS)[graph]
                path = folder / f"{graph}.plan"
                models[graph] = TensorRtModel(path, INPUT[graph], outputs, streams, runs)
        return cls(models, streams, description, runs)

    @classmethod
    def describe(cls, config: EngineConfig) -> str:
        """See Engine.describe."""
        _check_device(config.device)
        return describe_engine(trt.__name__, trt.__version__, config)

    def run(self, graph: GraphName, inputs: NDArray[Any]) -> EngineOutput:
        """See Engine.run."""
        try:
            return EngineOutput.of_arrays(self._models[graph].run(inputs))
        except (EngineError, OutOfMemoryError) as error:
            raise type(error)(f"{graph}: {error}") from error

    def close(self) -> None:
        """See Engine.close."""
        for model in self._models.values():
            model.close()
        self._models = {}
        self._streams.close()


def _check_device(device: Device) -> None:
    if device == "cpu":
        raise EngineUnavailableError("engine.device: tensorrt runs on cuda only")
    check_device()
