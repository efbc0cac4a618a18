"""The engine contract: arrays in, arrays out.

B batch, S image side, T tokens, P patches, C concepts, K active concepts, D CLIP width.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from bundle.onnx_graph import GraphName
from bundle.schema import NumberRange
from bundle.store import Bundle
from serving.engines import ENGINES, Device


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How the graphs run."""

    name: Annotated[str, ENGINES] = ENGINES.names[0]
    """Engine that runs the graphs."""
    device: Device = "cpu"
    """Device that runs the graphs; cuda needs an engine whose library is built for CUDA."""
    threads: Annotated[int, NumberRange(0, 1_000)] = 0
    """Threads per run; 0 uses one for a small model, otherwise one per core."""
    runs: Annotated[int, NumberRange(0, 1_000)] = 0
    """Concurrent runs of one graph; 0 uses as many as the cores allow, or 1 on cuda."""
    spin: bool = False
    """Let threads spin between runs: faster while other cores are idle, otherwise slower."""
    memory_mib: Annotated[int, NumberRange(0, 10_000_000)] = 0
    """CUDA arena limit in MiB; 0 for onnxruntime's default. On CPU, batch.max_images bounds it."""


class EngineError(RuntimeError):
    """A run failed, or its output is one that no model gives. For the log, not for the wire."""


class EngineUnavailableError(EngineError):
    """The device is not available; the message is one line that names the setting."""


class OutOfMemoryError(EngineError):
    """The device or the machine has too little memory for a batch of this size."""


@dataclass(frozen=True, kw_only=True)
class PatchOutput:
    """Codes of every patch, as the graph's TopK gives them."""

    indices: NDArray[Any]
    """(B, P, Kp), integers."""
    values: NDArray[Any]
    """(B, P, Kp) float32, 0 in unused slots."""
    active: NDArray[Any]
    """(B, P): how many concepts are active on each patch, those beyond Kp included."""


@dataclass(frozen=True, kw_only=True)
class EngineOutput:
    """What one run gives; `outputs.rows_of` checks it. A dense model gives `dense` alone."""

    indices: NDArray[Any]
    """(B, K), integers."""
    values: NDArray[Any]
    """(B, K) float32, 0 in unused slots."""
    active: NDArray[Any]
    """(B,): how many concepts are active, those beyond K included."""
    norm: NDArray[Any]
    """(B,) float32: the L2 norm of the code over all C."""
    dense: NDArray[Any]
    """(B, D) float32."""
    patches: PatchOutput | None = None
    """Codes of every patch; only the graph `patches` gives them."""

    @classmethod
    def of_dense(cls, dense: NDArray[Any]) -> Self:
        """The output (B, D) of a dense model: its codes have no concepts."""
        rows = len(dense)
        return cls(
            indices=np.zeros((rows, 0), dtype=np.int64),
            values=np.zeros((rows, 0), dtype=np.float32),
            active=np.zeros(rows, dtype=np.int64),
            norm=np.zeros(rows, dtype=np.float32),
            dense=dense,
        )


class Engine(Protocol):
    """Runs the graphs of one bundle, `Bundle.graphs`. Up to `runs` threads may call `run` for each
    graph."""

    @classmethod
    def open(cls, bundle: Bundle, config: EngineConfig, cores: int = 0) -> Self:
        """Loads the graphs for a machine of `cores` cores; 0 means all that are available.

        Raises EngineUnavailableError for a device that is not available, EngineError for a file
        that is not a graph.
        """

    @classmethod
    def describe(cls, config: EngineConfig) -> str:
        """What `description` would be on this machine, without loading a graph.

        Raises EngineUnavailableError.
        """

    @property
    def description(self) -> str:
        """Library, version and device, for status and logs."""

    @property
    def runs(self) -> int:
        """How many concurrent runs of one graph keep the device busy."""

    def run(self, graph: GraphName, inputs: NDArray[Any]) -> EngineOutput:
        """Runs a graph on pixels (B, 3, S, S) float32, or on tokens (B, T) int64.

        Raises OutOfMemoryError when a smaller batch may succeed, EngineError for other failures.
        """

    def close(self) -> None:
        """Frees the graphs; `run` is not called again."""


class EngineFactory(Protocol):
    """How a server or an export opens its engine; tests pass one that opens faulty engines."""

    def __call__(self, bundle: Bundle, config: EngineConfig, cores: int = 0) -> Engine:
        """See Engine.open."""


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_engine(bundle: Bundle, config: EngineConfig, cores: int = 0) -> Engine:
    """Opens the engine that `config` names.

    Raises PluginError when a library of the engine is missing, and what Engine.open raises.
    """
    return ENGINES.load(config.name).open(bundle, config, cores)
