"""One version of a model, in memory: its state, and the calls that hold it."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from serving.core.memory import settle_memory
from serving.core.requests import ModelId
from serving.models.loaded_model import ServedModel


class VersionState(enum.Enum):
    """What the server can do with a version."""

    LOADING = enum.auto()
    SERVING = enum.auto()
    FAILED = enum.auto()
    """It could not be loaded, or it does not pass its probes."""


@dataclass(frozen=True, kw_only=True)
class VersionStatus:
    """One version's state."""

    id: ModelId
    state: VersionState
    is_default: bool
    """Whether calls that name no model get this version."""
    engine: str
    """Library, version and device that run it; empty unless it is loaded."""


@dataclass(kw_only=True, eq=False)
class LoadedVersion:
    """A model, how many calls hold it, and whether it answers."""

    model: ServedModel
    watch: asyncio.Task[None] | None = None
    """Probes the model while it is loaded."""
    healthy: bool = True
    _leases: int = 0
    _unused: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while no call holds a lease."""

    def __post_init__(self) -> None:
        self._unused.set()

    @contextmanager
    def lease(self) -> Iterator[ServedModel]:
        """The model, which is not freed before the block ends."""
        self._leases += 1
        self._unused.clear()
        try:
            yield self.model
        finally:
            self._leases -= 1
            if self._leases == 0:
                self._unused.set()

    def give_up_calls(self) -> None:
        """Makes `retire` wait no longer for those who hold a lease."""
        self._unused.set()

    async def retire(self) -> None:
        """Frees the model when nobody holds a lease any more."""
        await self._unused.wait()
        await self.free()

    async def free(self) -> None:
        """Frees the model now."""
        if self.watch is not None:
            self.watch.cancel()
        closing = self.model.close()
        del self.model  # the frames of those who wait for this would keep it
        await closing
        await asyncio.get_running_loop().run_in_executor(None, settle_memory)
