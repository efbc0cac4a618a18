"""ONNX Runtime: one session a graph."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from numpy.typing import NDArray

from bundle.store import Bundle
from serving.core.errors import StartupError
from serving.engines.base import (
    GRAPHS,
    EngineConfig,
    EngineError,
    EngineOutput,
    Graph,
    OutOfMemoryError,
    PatchOutput,
)

_ROW = ("indices", "values", "active", "norm", "dense")
_PATCHES = ("patch_indices", "patch_values", "patch_active")
_OUTPUTS: dict[Graph, tuple[str, ...]] = {
    "image": _ROW,
    "text": _ROW,
    "patches": (*_ROW, *_PATCHES),
}
_INPUT: dict[Graph, str] = {"image": "pixels", "text": "tokens", "patches": "pixels"}


_FULL = ("Failed to allocate memory", "out of memory", "bad_alloc", "CUBLAS_STATUS_ALLOC_FAILED")
"""In what onnxruntime says when there is no memory: it has no class of its own for it."""

_SMALL = 32 * 2**20
"""Bytes of a graph up to which a run takes milliseconds. Threads would then wait for each other
more than they save: two runs of a thread each are faster than one run of two."""


class OnnxEngine:
    """The graphs of a bundle on a CPU or a CUDA device."""

    def __init__(self, sessions: dict[Graph, Any], description: str, runs: int) -> None:
        self._sessions = sessions
        self.description = description
        self.runs = runs

    @classmethod
    def open(cls, bundle: Bundle, config: EngineConfig, cores: int = 0) -> OnnxEngine:
        """Loads the three graphs side by side, for so many cores; 0: all that there are.

        Raises StartupError for a device that is not there, EngineError for a graph that is not
        one of ours.
        """
        import onnxruntime

        providers = _providers(config, onnxruntime.get_available_providers())
        small = all(bundle.file(f"{graph}.onnx").stat().st_size <= _SMALL for graph in GRAPHS)
        cores = cores or available_cores()
        threads = config.threads or (1 if small else cores)
        runs = config.runs or (1 if config.device == "cuda" else -(-cores // threads))
        options = _options(threads, config.spin, onnxruntime)

        def load(graph: Graph) -> Any:
            path = str(bundle.file(f"{graph}.onnx"))
            try:
                session = onnxruntime.InferenceSession(path, options, providers=providers)
            except Exception as error:  # onnxruntime has a class of its own for each failure
                raise EngineError(f"{graph}.onnx: {error}") from error
            given = {output.name for output in session.get_outputs()}
            taken = [entry.name for entry in session.get_inputs()]
            if taken != [_INPUT[graph]] or not given.issuperset(_OUTPUTS[graph]):
                raise EngineError(f"{graph}.onnx: other inputs or outputs than a bundle has")
            return session

        # Reading a graph and optimising it releases the GIL.
        with ThreadPoolExecutor(len(GRAPHS)) as pool:
            sessions = dict(zip(GRAPHS, pool.map(load, GRAPHS), strict=True))
        if config.device == "cuda" and "CUDA" not in sessions["image"].get_providers()[0]:
            raise StartupError("engine.device: onnxruntime finds no CUDA device")
        return cls(sessions, runtime_of(config), runs)

    def run(self, graph: Graph, inputs: NDArray[Any]) -> EngineOutput:
        """See Engine.run."""
        try:
            arrays = self._sessions[graph].run(_OUTPUTS[graph], {_INPUT[graph]: inputs})
        except Exception as error:
            full = isinstance(error, MemoryError) or any(text in str(error) for text in _FULL)
            kind = OutOfMemoryError if full else EngineError
            raise kind(f"{graph}: {error}") from error
        row, patches = arrays[: len(_ROW)], arrays[len(_ROW) :]
        return EngineOutput(
            **dict(zip(_ROW, row, strict=True)),
            patches=PatchOutput(indices=patches[0], values=patches[1], active=patches[2])
            if patches
            else None,
        )

    def close(self) -> None:
        """See Engine.close."""
        self._sessions = {}


def runtime_of(config: EngineConfig) -> str:
    """What an engine of this machine would describe itself as. Raises StartupError."""
    import onnxruntime

    _providers(config, onnxruntime.get_available_providers())
    return f"onnxruntime {onnxruntime.__version__} {config.device}"


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _providers(config: EngineConfig, available: list[str]) -> list[Any]:
    if config.device == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in available:
        raise StartupError("engine.device: this onnxruntime has no CUDA; use cpu")
    bound = {"gpu_mem_limit": str(config.memory_mib * 2**20)} if config.memory_mib else {}
    options = {"arena_extend_strategy": "kSameAsRequested", **bound}
    return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]


def _options(threads: int, spin: bool, onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A memory pattern is kept for every batch size it has seen; the arena alone is bounded by the
    # largest batch, which the warm-up runs.
    options.enable_mem_pattern = False
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    return options
