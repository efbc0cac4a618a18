"""The engine contract: arrays in, arrays out.

B batch, S image side, T tokens, P patches, C concepts, K active concepts, D CLIP width.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from bundle.onnx_graph import PATCH_OUTPUTS, ROW_OUTPUTS, GraphName
from bundle.schema import NumberRange
from bundle.store import Bundle
from serving.engines import AUTO, ENGINES, Device, EnginePrecision


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How the graphs run."""

    name: Annotated[str, ENGINES] = AUTO
    """Engine that runs the graphs; auto takes the fastest that passes the parity gate here."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    """Numbers that the graphs run in; auto takes the fastest that pass the parity gate here."""
    device: Device = "cpu"
    """Device that runs the graphs; cuda needs an engine whose library is built for CUDA."""
    threads: Annotated[int, NumberRange(0, 1_000)] = 0
    """Threads per run; 0 uses one for a small model, otherwise one per core."""
    runs: Annotated[int, NumberRange(0, 1_000)] = 0
    """Concurrent runs of one graph; 0 uses as many as the cores allow, on cuda 1 (tensorrt: 2)."""
    spin: bool = False
    """Let threads spin between runs: faster while other cores are idle, otherwise slower."""
    memory_mib: Annotated[int, NumberRange(0, 10_000_000)] = 0
    """CUDA arena limit in MiB; 0 for onnxruntime's default. On CPU, batch.max_images bounds it."""
    cache: str | None = None
    """Folder of built engines. Default: engines below $SPARSECLIP_CACHE or the user's cache."""

    @property
    def is_chosen(self) -> bool:
        """Whether nothing is left to `auto`."""
        return AUTO not in (self.name, self.precision)

    @property
    def chosen_precision(self) -> EnginePrecision:
        """The precision of a configuration that leaves none to `auto`."""
        if self.precision == "auto":
            raise ValueError("the precision is left to auto")
        return self.precision


REFERENCE = EngineConfig(name="onnxruntime", precision="fp32")
"""On this, a bundle's graphs were compared with torch. Other engines are compared with it."""


class EngineError(RuntimeError):
    """A run failed, or its output is one that no model gives. For the log, not for the wire."""


class EngineUnavailableError(EngineError):
    """The device is not available; the message is one line that names the setting."""


class OutOfMemoryError(EngineError):
    """The device or the machine has too little memory for a batch of this size."""


class EngineLostError(EngineError):
    """The process that runs the graphs has ended; it may be there again soon."""


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
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The output of a graph whose arrays are given by the names of bundle.onnx_graph."""
        if "indices" not in arrays:
            return cls.of_dense(arrays["dense"])
        patches = None
        if PATCH_OUTPUTS[0] in arrays:
            indices, values, active = (arrays[name] for name in PATCH_OUTPUTS)
            patches = PatchOutput(indices=indices, values=values, active=active)
        return cls(**{name: arrays[name] for name in ROW_OUTPUTS}, patches=patches)

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


Region = Literal["head", "norms", "last_block"]
"""A part of a graph that a mixed recipe keeps in fp32; _regions.py finds it."""


@dataclass(frozen=True, kw_only=True)
class GraphPlan:
    """What an engine opens for one graph."""

    precision: EnginePrecision
    kept: tuple[Region, ...] = ()
    """Regions that stay in fp32."""
    folder: Path | None = None
    """What `Engine.build` wrote. None where it wrote nothing: the bundle's own graph is opened."""


@dataclass(frozen=True, kw_only=True)
class BuildTask:
    """One graph that an engine shall build."""

    bundle: Bundle
    graph: GraphName
    device: Device
    precision: EnginePrecision
    kept: tuple[Region, ...]
    calibration: NDArray[Any] | None
    """Inputs of the graph, (N, ...), by which an engine finds the ranges of int8 values."""
    folder: Path
    """An empty folder for what the engine opens later. It stays empty where that is the bundle's
    own graph."""


Plans = Mapping[GraphName, GraphPlan]
"""The graphs that an engine opens, with a plan for each."""


class OpenedEngine(Protocol):
    """Runs graphs of one bundle. Up to `runs` threads may call `run` for each graph."""

    @property
    def description(self) -> str:
        """Library, version, device, and a precision other than fp32: for status and logs."""

    @property
    def runs(self) -> int:
        """How many concurrent runs of one graph keep the device busy."""

    def run(self, graph: GraphName, inputs: NDArray[Any]) -> EngineOutput:
        """Runs a graph on pixels (B, 3, S, S) float32, or on tokens (B, T) int64.

        Raises OutOfMemoryError when a smaller batch may succeed, EngineError for other failures.
        """

    def close(self) -> None:
        """Frees the graphs; `run` is not called again."""


class Engine(OpenedEngine, Protocol):
    """What a plug-in of the table of engines is: how graphs are built for it and opened by it."""

    @classmethod
    def precisions(cls, device: Device) -> tuple[EnginePrecision, ...]:
        """The precisions that this machine has instructions for, fp32 first.

        Raises EngineUnavailableError for a device that is not available.
        """

    @classmethod
    def needs_calibration(cls, precision: EnginePrecision) -> bool:
        """Whether `build` needs images and texts for a precision."""

    @classmethod
    def identity(cls, device: Device) -> str:
        """Library, version and hardware, in full: what was built under another identity may be
        wrong or slow here, and is built again."""

    @classmethod
    def build(cls, task: BuildTask) -> None:
        """Writes what `open` needs for one graph. Raises EngineError."""

    @classmethod
    def open(
        cls, bundle: Bundle, config: EngineConfig, cores: int = 0, plans: Plans | None = None
    ) -> Self:
        """Loads the graphs of `plans` for a machine of `cores` cores; 0 means all that are
        available. Without `plans`, those that are served, in fp32.

        Raises EngineUnavailableError for a device that is not available, EngineError for a file
        that is not a graph.
        """

    @classmethod
    def describe(cls, config: EngineConfig) -> str:
        """What `description` would be on this machine, without loading a graph.

        Raises EngineUnavailableError.
        """


class EngineFactory(Protocol):
    """How a server or an export opens its engine; tests pass one that opens faulty engines."""

    def __call__(self, bundle: Bundle, config: EngineConfig, cores: int = 0) -> OpenedEngine:
        """Opens an engine. See Engine.open, and engine_plans.open_engine for `auto`."""


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fp32_plans(bundle: Bundle) -> Plans:
    """The bundle's own graphs, as they are."""
    return {graph: GraphPlan(precision="fp32") for graph in bundle.graphs}


SMALL_GRAPH_BYTES = 32 * 2**20
"""A run of a graph up to this size takes milliseconds. Its threads would wait for each other longer
than they save, so two runs with one thread each are faster than one run with two threads."""


_THREADS_PER_CORE = 16
"""More threads than this only take memory and wait for each other."""


def cpu_threads(bundle: Bundle, config: EngineConfig, cores: int) -> tuple[int, int]:
    """Threads for each run on a CPU, and concurrent runs, as configured or by the graphs' size.

    Raises EngineUnavailableError for many more threads than cores.
    """
    sizes = [bundle.file(f"{graph}.onnx").stat().st_size for graph in bundle.graphs]
    cores = cores or available_cores()
    threads = config.threads or (1 if max(sizes) <= SMALL_GRAPH_BYTES else cores)
    runs = config.runs or -(-cores // threads)
    most = max(64, _THREADS_PER_CORE * cores)
    if threads * runs > most:
        raise EngineUnavailableError(
            f"engine.threads, engine.runs: {runs:,} runs of {threads:,} threads are too many for"
            f" {cores} cores; at most {most:,} threads in all"
        )
    return threads, runs


def describe_engine(library: str, version: str, config: EngineConfig) -> str:
    """An engine's `description`."""
    precision = "" if config.precision in ("fp32", AUTO) else f" {config.precision}"
    return f"{library} {version} {config.device}{precision}"
