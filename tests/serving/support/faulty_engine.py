"""The real engine with faults to inject."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from bundle.onnx_graph import GraphName
from serving.engines.base import Engine, EngineError, EngineOutput


class FaultyEngine:
    """The real engine, behind a gate that a test opens and closes, with faults to inject."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.description = engine.description
        self.runs = engine.runs
        self.open = threading.Event()
        """Cleared: every run waits."""
        self.open.set()
        self.entered = threading.Event()
        """Set when a run has begun; a test may clear it."""
        self.poison: Callable[[NDArray[Any]], bool] = lambda row: False
        """Which row makes a run fail."""
        self.change: Callable[[EngineOutput], EngineOutput] = lambda output: output
        """What happens to outputs."""
        self.seen: list[NDArray[Any]] = []
        """Every row that came in, with the size of its batch in `sizes`."""
        self.sizes: list[int] = []

    def run(self, graph: GraphName, inputs: NDArray[Any]) -> EngineOutput:
        self.entered.set()
        assert self.open.wait(60)
        self.seen.extend(inputs)
        self.sizes.append(len(inputs))
        if any(self.poison(row) for row in inputs):
            raise EngineError("poison at 0x7fff5fbff8c0 in /secret/path.py")
        return self.change(self.engine.run(graph, inputs))

    def close(self) -> None:
        self.seen.clear()
        self.engine.close()
