"""The trace of the call that the current task answers: where its stages say how long they took.

Nothing here needs OpenTelemetry; serving/core/open_telemetry.py sends what is recorded.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol


class CallTrace(Protocol):
    """The span of one call, and the spans of its stages below it."""

    def stage(
        self, name: str, started: float, ended: float, **attributes: str | int | float
    ) -> None:
        """Records a stage that has ended; times are the event loop's."""

    def end_with(self, code: str, message: str) -> None:
        """The call ends with this status of gRPC instead of OK."""


# Tasks and callbacks inherit it: what a handler starts belongs to the same call.
_TRACE: ContextVar[CallTrace | None] = ContextVar("call_trace", default=None)


def current_trace() -> CallTrace | None:
    """The trace of the current call; None for a call that is not traced."""
    return _TRACE.get()


class Traced:
    """Makes a trace the current one inside a `with` block."""

    def __init__(self, trace: CallTrace) -> None:
        self._trace = trace

    def __enter__(self) -> CallTrace:
        self._token = _TRACE.set(self._trace)
        return self._trace

    def __exit__(self, *_: object) -> None:
        _TRACE.reset(self._token)


def record_item(
    trace: CallTrace, graph: str, spent: tuple[float, float, float, float], items: int
) -> None:
    """Records the stages of an item that was one of `items` in a run of a graph. `spent` is when
    its decoding began, when it was queued, when its run began and when that ended."""
    began, queued, started, ended = spent
    trace.stage(f"{graph} decode", began, queued)
    trace.stage(f"{graph} queue", queued, started)
    trace.stage(f"{graph} run", started, ended, **{"sparseclip.batch.items": items})
