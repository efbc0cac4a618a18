"""ONNX Runtime: one session for each graph."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from numpy.typing import NDArray

from bundle.onnx_graph import CPU, GraphName, OnnxGraph, import_onnxruntime
from bundle.store import Bundle
from serving.engines import Device, EnginePrecision
from serving.engines._hardware import hardware
from serving.engines._onnx_quantization import quantize
from serving.engines.base import (
    BuildTask,
    EngineConfig,
    EngineError,
    EngineOutput,
    EngineUnavailableError,
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

    def __init__(self, graphs: dict[GraphName, OnnxGraph], description: str, runs: int) -> None:
        self._graphs = graphs
        self.description = description
        self.runs = runs

    @classmethod
    def precisions(cls, device: Device) -> tuple[EnginePrecision, ...]:
        """See Engine.precisions. Without instructions for int8 (VNNI) its products are slower than
        those of fp32, but right."""
        _providers(EngineConfig(device=device))
        return ("fp32", "int8") if device == "cpu" else ("fp32",)

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

    @classmethod
    def open(
        cls, bundle: Bundle, config: EngineConfig, cores: int = 0, plans: Plans | None = None
    ) -> Self:
        """See Engine.open."""
        description, providers = cls.describe(config), _providers(config)
        threads, runs = cpu_threads(bundle, config, cores)
        plans = plans or fp32_plans(bundle)

        def load(graph: GraphName) -> OnnxGraph:
            folder = plans[graph].folder
            try:
                return OnnxGraph(
                    folder / f"{graph}.onnx" if folder else bundle.file(f"{graph}.onnx"),
                    graph,
                    threads=threads,
                    providers=providers,
                    # onnxruntime would keep a memory pattern for every batch size it meets. The
                    # arena alone is bounded: by the largest batch, which the warm-up runs.
                    settings={"inter_op_num_threads": 1, "enable_mem_pattern": False},
                    config_entries={"session.intra_op.allow_spinning": "1" if config.spin else "0"},
                    sparse=bundle.is_sparse,
                )
            except Exception as error:  # onnxruntime has a class of its own for each failure
                raise EngineError(f"{graph}.onnx: {error}") from error

        # Reading a graph and optimizing it releases the GIL.
        with ThreadPoolExecutor(len(plans)) as pool:
            graphs = dict(zip(plans, pool.map(load, plans), strict=True))
        if config.device == "cuda":
            runs = config.runs or 1
            if "CUDA" not in next(iter(graphs.values())).providers[0]:
                raise EngineUnavailableError("engine.device: onnxruntime finds no CUDA device")
        return cls(graphs, description, runs)

    @classmethod
    def describe(cls, config: EngineConfig) -> str:
        """See Engine.describe."""
        _providers(config)
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


def _providers(config: EngineConfig) -> tuple[Any, ...]:
    if config.device == "cpu":
        return CPU
    if "CUDAExecutionProvider" not in import_onnxruntime().get_available_providers():
        raise EngineUnavailableError("engine.device: this onnxruntime has no CUDA; use cpu")
    bound = {"gpu_mem_limit": str(config.memory_mib * 2**20)} if config.memory_mib else {}
    options = {"arena_extend_strategy": "kSameAsRequested", **bound}
    return (("CUDAExecutionProvider", options), *CPU)
