"""Runs of several front ends joined: batches that wait for one engine go through it together."""

from __future__ import annotations

import collections
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.onnx_graph import GRAPHS, GraphName
from serving.engines.base import EngineOutput, OpenedEngine, PatchOutput

log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class _JointShare:
    """The inputs of one front end's run, and what became of them."""

    inputs: NDArray[Any]
    output: EngineOutput | None = None
    error: Exception | None = None

    @property
    def done(self) -> bool:
        return self.output is not None or self.error is not None


class JointRuns:
    """Lets many threads use one engine, with at most `engine.runs` runs of a graph at a time.

    Each thread brings the batch of one front end. While the engine is busy, batches wait in line.
    The thread of the first one then runs it together with those behind it, as many as fit into the
    largest batch. The other threads take their rows of the output.
    """

    def __init__(self, engine: OpenedEngine, largest: Mapping[GraphName, int]) -> None:
        """`largest` is the largest batch of each graph, in items."""
        self._engine = engine
        self._largest = largest
        self._waiting: dict[GraphName, collections.deque[_JointShare]] = {
            graph: collections.deque() for graph in GRAPHS
        }
        self._running = dict.fromkeys(GRAPHS, 0)
        self._changed = threading.Condition()

    def run(self, graph: GraphName, inputs: NDArray[Any]) -> EngineOutput:
        """As Engine.run, from any number of threads."""
        share = _JointShare(inputs=inputs)
        waiting = self._waiting[graph]
        with self._changed:
            waiting.append(share)
            self._changed.wait_for(lambda: share.done or self._is_next(graph, share))
            if not share.done:
                joined = self._take(graph)
                self._running[graph] += 1
        if not share.done:
            try:
                self._run(graph, joined)
            finally:
                with self._changed:
                    self._running[graph] -= 1
                    self._changed.notify_all()
        if share.error is not None:
            raise share.error
        assert share.output is not None
        return share.output

    def _is_next(self, graph: GraphName, share: _JointShare) -> bool:
        waiting = self._waiting[graph]
        return self._running[graph] < self._engine.runs and bool(waiting) and waiting[0] is share

    def _take(self, graph: GraphName) -> list[_JointShare]:
        """Takes the shares of the next run off the line: the first one, and what fits beside it."""
        waiting = self._waiting[graph]
        shares = [waiting.popleft()]
        items = len(shares[0].inputs)
        while waiting and items + len(waiting[0].inputs) <= self._largest[graph]:
            shares.append(waiting.popleft())
            items += len(shares[-1].inputs)
        if waiting:  # another thread may start a concurrent run
            self._changed.notify_all()
        return shares

    def _run(self, graph: GraphName, shares: Sequence[_JointShare]) -> None:
        """Runs shares together. If that fails, each is run alone: the fault may be that of one."""
        if len(shares) > 1:
            try:
                output = self._engine.run(graph, np.concatenate([share.inputs for share in shares]))
                start = 0
                for share in shares:
                    stop = start + len(share.inputs)
                    share.output = _rows(output, start, stop)
                    start = stop
                return
            except Exception as error:
                log.warning("%d runs fail together, and run alone: %s", len(shares), error)
        for share in shares:
            try:
                share.output = self._engine.run(graph, share.inputs)
            except Exception as error:
                share.error = error


def _rows(output: EngineOutput, start: int, stop: int) -> EngineOutput:
    """Rows of an output."""
    maps = output.patches
    arrays = {
        field.name: getattr(output, field.name)[start:stop]
        for field in fields(EngineOutput)
        if field.name != "patches"
    }
    if maps is None:
        return EngineOutput(**arrays)
    rows = {field.name: getattr(maps, field.name)[start:stop] for field in fields(PatchOutput)}
    return EngineOutput(**arrays, patches=PatchOutput(**rows))
