"""The engine: arrays in, arrays out. B batch, T tokens, P patches, C concepts, D CLIP width."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, Self

from numpy.typing import NDArray

from bundle.onnx_graph import GraphName
from bundle.store import Bundle
from serving.engines import ENGINES


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How the graphs run."""

    name: Annotated[str, ENGINES] = ENGINES.names[0]
    """Which engine runs them."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where; cuda needs an onnxruntime that was built for it."""
    threads: int = 0
    """Threads of one run; 0 takes one for a small model, else one for every core."""
    runs: int = 0
    """Runs of one graph at the same time; 0 takes as many as there are cores for (cuda: 1)."""
    spin: bool = False
    """Whether threads spin between runs: faster when idle cores are free, else slower."""
    memory_mib: int = 0
    """Bound of the device's arena (cuda); 0 leaves it to onnxruntime. On a CPU max_images is it."""


class EngineError(RuntimeError):
    """A run failed, or gave something that no run may give. For the log, not for the wire."""


class EngineUnavailableError(EngineError):
    """The engine or its device is not there; the message is one line that names the setting."""


class OutOfMemoryError(EngineError):
    """The device, or the machine, has no room for so many rows at once."""


@dataclass(frozen=True, kw_only=True)
class PatchOutput:
    """Codes of every patch, as the graph's TopK gives them."""

    indices: NDArray[Any]
    """(B, P, Kp), integers."""
    values: NDArray[Any]
    """(B, P, Kp) float32, 0 in unused slots."""
    active: NDArray[Any]
    """(B, P): how many fired, also those beyond Kp."""


@dataclass(frozen=True, kw_only=True)
class EngineOutput:
    """What one run gives, unchecked."""

    indices: NDArray[Any]
    """(B, K), integers."""
    values: NDArray[Any]
    """(B, K) float32, 0 in unused slots."""
    active: NDArray[Any]
    """(B,): how many fired, also those beyond K."""
    norm: NDArray[Any]
    """(B,) float32: L2 over all C."""
    dense: NDArray[Any]
    """(B, D) float32."""
    patches: PatchOutput | None = None
    """Of the graph `patches` alone."""


class Engine(Protocol):
    """Runs the three graphs of one bundle, each in up to `runs` threads at a time."""

    @classmethod
    def open(cls, bundle: Bundle, config: EngineConfig, cores: int = 0) -> Self:
        """Loads the three graphs side by side, for `cores` cores; 0 takes all there are.

        Raises EngineUnavailableError for a device that is not there, EngineError for a file that
        is not one of a bundle's graphs.
        """

    @classmethod
    def describe(cls, config: EngineConfig) -> str:
        """What `description` would be on this machine, without loading anything.

        Raises EngineUnavailableError.
        """

    @property
    def description(self) -> str:
        """Library, version and device, for status and logs."""

    @property
    def runs(self) -> int:
        """Runs of one graph at the same time that use the device up."""

    def run(self, graph: GraphName, inputs: NDArray[Any]) -> EngineOutput:
        """Pixels (B, 3, S, S) float32, or tokens (B, T) int64, to outputs.

        Raises EngineError.
        """

    def close(self) -> None:
        """Frees the graphs; no run follows."""


class EngineFactory(Protocol):
    """What a server or an export opens its engine with; tests put faulty engines in its place."""

    def __call__(self, bundle: Bundle, config: EngineConfig, cores: int = 0) -> Engine:
        """See Engine.open."""


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_engine(bundle: Bundle, config: EngineConfig, cores: int = 0) -> Engine:
    """Opens the engine that `config` names. Raises PluginError when a library of it is missing,
    and what Engine.open raises."""
    return ENGINES.load(config.name).open(bundle, config, cores)
