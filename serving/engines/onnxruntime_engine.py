"""ONNX Runtime: one session for each graph."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from numpy.typing import NDArray

from bundle.onnx_graph import (
    CPU,
    PATCH_OUTPUTS,
    ROW_OUTPUTS,
    GraphName,
    OnnxGraph,
    import_onnxruntime,
)
from bundle.store import Bundle
from serving.engines.base import (
    EngineConfig,
    EngineError,
    EngineOutput,
    EngineUnavailableError,
    OutOfMemoryError,
    PatchOutput,
    available_cores,
)

OUT_OF_MEMORY_MESSAGES = (
    "Failed to allocate memory",
    "out of memory",
    "bad_alloc",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
"""Substrings of onnxruntime's out-of-memory messages; it has no exception class for them."""

SMALL_GRAPH_BYTES = 32 * 2**20
"""A run of a graph up to this size takes milliseconds. Its threads would wait for each other longer
than they save, so two runs with one thread each are faster than one run with two threads."""


class OnnxRuntimeEngine:
    """The graphs of a bundle on a CPU or a CUDA device."""

    def __init__(self, graphs: dict[GraphName, OnnxGraph], description: str, runs: int) -> None:
        self._graphs = graphs
        self.description = description
        self.runs = runs

    @classmethod
    def open(cls, bundle: Bundle, config: EngineConfig, cores: int = 0) -> Self:
        """See Engine.open."""
        description, providers = cls.describe(config), _providers(config)
        sizes = [bundle.file(f"{graph}.onnx").stat().st_size for graph in bundle.graphs]
        small = max(sizes) <= SMALL_GRAPH_BYTES
        cores = cores or available_cores()
        threads = config.threads or (1 if small else cores)
        runs = config.runs or (1 if config.device == "cuda" else -(-cores // threads))

        def load(graph: GraphName) -> OnnxGraph:
            try:
                return OnnxGraph(
                    bundle.file(f"{graph}.onnx"),
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
        with ThreadPoolExecutor(len(bundle.graphs)) as pool:
            graphs = dict(zip(bundle.graphs, pool.map(load, bundle.graphs), strict=True))
        if config.device == "cuda" and "CUDA" not in graphs["image"].providers[0]:
            raise EngineUnavailableError("engine.device: onnxruntime finds no CUDA device")
        return cls(graphs, description, runs)

    @classmethod
    def describe(cls, config: EngineConfig) -> str:
        """See Engine.describe."""
        _providers(config)
        return f"onnxruntime {import_onnxruntime().__version__} {config.device}"

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
        if "indices" not in arrays:
            return EngineOutput.of_dense(arrays["dense"])
        patches = None
        if graph == "patches":
            indices, values, active = (arrays[name] for name in PATCH_OUTPUTS)
            patches = PatchOutput(indices=indices, values=values, active=active)
        return EngineOutput(**{name: arrays[name] for name in ROW_OUTPUTS}, patches=patches)

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
