"""ONNX Runtime: one session for each graph, on a CPU or a CUDA device."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Self

from numpy.typing import NDArray

from bundle.onnx_graph import CPU, GraphName, OnnxGraph, import_onnxruntime
from bundle.store import Bundle
from serving.engines import Device, EnginePrecision
from serving.engines._hardware import cuda_precisions, hardware
from serving.engines._onnx_quantization import quantize
from serving.engines._onnxruntime_cuda import BoundGraph, cuda_provider
from serving.engines._typed_graph import write_typed_graph
from serving.engines.base import (
    BuildTask,
    EngineConfig,
    EngineError,
    EngineOutput,
    EngineUnavailableError,
    GraphPlan,
    OutOfMemoryError,
    Plans,
    cpu_threads,
    describe_engine,
    fp32_plans,
)

OUT_OF_MEMORY_MESSAGES = (
    "Failed to allocate memory",
    "out of memory",
    "bad_alloc",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
"""Substrings of onnxruntime's out-of-memory messages; it has no exception class for them."""


class OnnxRuntimeEngine:
    """The graphs of a bundle on a CPU or a CUDA device."""

    def __init__(
        self, graphs: dict[GraphName, OnnxGraph | BoundGraph], description: str, runs: int
    ) -> None:
        self._graphs = graphs
        self.description = description
        self.runs = runs

    @classmethod
    def precisions(cls, device: Device) -> tuple[EnginePrecision, ...]:
        """See Engine.precisions. Without instructions for int8 (VNNI) its products are slower than
        those of fp32, but right."""
        cls._check(EngineConfig(device=device))
        return ("fp32", "int8") if device == "cpu" else cuda_precisions()

    @classmethod
    def needs_calibration(cls, precision: EnginePrecision) -> bool:
        """See Engine.needs_calibration. Ranges are found anew in each run."""
        return False

    @classmethod
    def identity(cls, device: Device) -> str:
        """See Engine.identity."""
        return f"{cls.describe(EngineConfig(device=device))}, {hardware(device)}"

    @classmethod
    def build(cls, task: BuildTask) -> None:
        """See Engine.build."""
        if task.precision == "int8":
            quantize(task, task.folder / f"{task.graph}.onnx")
        elif task.precision != "fp32":
            write_typed_graph(task)

    @classmethod
    def open(
        cls, bundle: Bundle, config: EngineConfig, cores: int = 0, plans: Plans | None = None
    ) -> Self:
        """See Engine.open."""
        description = cls.describe(config)
        threads, runs = cpu_threads(bundle, config, cores)
        plans = plans or fp32_plans(bundle)

        def load(graph: GraphName, *, captured: bool) -> OnnxGraph:
            folder = plans[graph].folder
            path = folder / f"{graph}.onnx" if folder else bundle.file(f"{graph}.onnx")
            return OnnxGraph(
                path if path.exists() else bundle.file(f"{graph}.onnx"),
                graph,
                threads=threads,
                providers=cls._providers(config, bundle, graph, plans[graph], captured=captured),
                # onnxruntime would keep a memory pattern for every batch size it meets. The
                # arena alone is bounded: by the largest batch, which the warm-up runs.
                settings={"inter_op_num_threads": 1, "enable_mem_pattern": False},
                config_entries={"session.intra_op.allow_spinning": "1" if config.spin else "0"},
                sparse=bundle.is_sparse,
            )

        def opened(graph: GraphName) -> OnnxGraph | BoundGraph:
            try:
                if config.device == "cpu":
                    return load(graph, captured=False)
                try:
                    return BoundGraph(load(graph, captured=True), captured=True)
                except Exception:
                    # A graph with an operation that only the CPU has cannot be captured.
                    return BoundGraph(load(graph, captured=False), captured=False)
            except Exception as error:  # onnxruntime has a class of its own for each failure
                raise EngineError(f"{graph}.onnx: {error}") from error

        # Reading a graph and optimizing it releases the GIL.
        with ThreadPoolExecutor(len(plans)) as pool:
            graphs = dict(zip(plans, pool.map(opened, plans), strict=True))
        if config.device == "cuda":
            runs = config.runs or 1
            # onnxruntime takes the CPU, and says nothing, where there is no CUDA device.
            if next(iter(graphs.values())).providers[0] != cls._provider:
                raise EngineUnavailableError("engine.device: onnxruntime finds no CUDA device")
        return cls(graphs, description, runs)

    @classmethod
    def describe(cls, config: EngineConfig) -> str:
        """See Engine.describe."""
        cls._check(config)
        return describe_engine("onnxruntime", import_onnxruntime().__version__, config)

    def run(self, graph: GraphName, inputs: NDArray[Any]) -> EngineOutput:
        """See Engine.run."""
        try:
            arrays = self._graphs[graph].run(inputs)
        except Exception as error:
            out_of_memory = isinstance(error, MemoryError) or any(
                message in str(error) for message in OUT_OF_MEMORY_MESSAGES
            )
            kind = OutOfMemoryError if out_of_memory else EngineError
            raise kind(f"{graph}: {error}") from error
        return EngineOutput.of_arrays(arrays)

    def close(self) -> None:
        """See Engine.close."""
        self._graphs = {}

    _provider: ClassVar[str] = "CUDAExecutionProvider"
    """What runs graphs on a CUDA device."""

    @classmethod
    def _check(cls, config: EngineConfig) -> None:
        providers = import_onnxruntime().get_available_providers()
        if config.device == "cuda" and cls._provider not in providers:
            raise EngineUnavailableError("engine.device: this onnxruntime has no CUDA; use cpu")

    @classmethod
    def _providers(
        cls, config: EngineConfig, bundle: Bundle, graph: GraphName, plan: GraphPlan, captured: bool
    ) -> tuple[Any, ...]:
        return CPU if config.device == "cpu" else cuda_provider(config, captured=captured)
