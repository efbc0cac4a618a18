"""The loaded models: names to versions, leases, atomic switches, and a watch over each."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bundle.store import BundleError, current_version
from bundle.verify import is_name
from serving.core.config import ServerConfig
from serving.core.errors import ErrorKind, ServingError, StartupError
from serving.core.metrics import Metrics
from serving.core.requests import ModelId, ModelSelector
from serving.engines.base import EngineError, EngineFactory
from serving.models.model import ServedModel

log = logging.getLogger(__name__)


class VersionState(enum.Enum):
    """Where a version stands."""

    LOADING = enum.auto()
    SERVING = enum.auto()
    FAILED = enum.auto()


@dataclass(frozen=True, kw_only=True)
class VersionStatus:
    """One version's state."""

    id: ModelId
    state: VersionState
    is_default: bool
    engine: str


@dataclass(kw_only=True, eq=False)
class _LoadedVersion:
    model: ServedModel
    watch: asyncio.Task[None] | None = None
    healthy: bool = True
    leases: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)


class Registry:
    """Hands out models. The first one loaded is the default."""

    def __init__(
        self,
        config: ServerConfig,
        metrics: Metrics,
        engine_factory: EngineFactory,
        changed: Callable[[], None],
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._engine_factory = engine_factory
        self._changed = changed
        self._entries: dict[ModelId, _LoadedVersion] = {}
        self._current: dict[str, ModelId] = {}
        self._default = ""
        self._unfinished: dict[ModelId, VersionState] = {}
        self._loading = asyncio.Lock()

    @property
    def healthy(self) -> bool:
        """The default model answers."""
        current = self._current.get(self._default)
        return current is not None and self._entries[current].healthy

    @property
    def chats(self) -> bool:
        """The default model answers conversations."""
        current = self._current.get(self._default)
        return current is not None and self._entries[current].model.chats

    @property
    def models(self) -> list[ServedModel]:
        """Every model that is loaded."""
        return [entry.model for entry in self._entries.values()]

    def listings(self) -> list[VersionStatus]:
        """Every version that is loaded, being loaded, or could not be loaded."""
        return [
            VersionStatus(
                id=model_id,
                state=VersionState.SERVING if entry.healthy else VersionState.FAILED,
                is_default=model_id == self._current.get(self._default),
                engine=entry.model.engine.description,
            )
            for model_id, entry in self._entries.items()
        ] + [
            VersionStatus(id=model_id, state=state, is_default=False, engine="")
            for model_id, state in self._unfinished.items()
        ]

    @contextmanager
    def lease(self, selector: ModelSelector) -> Iterator[ServedModel]:
        """The model that a caller names; it stays loaded inside the block.

        Raises ServingError when it is not loaded.
        """
        name = selector.name or self._default
        model_id = self._current.get(name)
        if selector.version:
            model_id = ModelId(name=name, version=selector.version)
        entry = self._entries.get(model_id) if model_id else None
        if entry is None:
            raise ServingError(ErrorKind.NOT_FOUND, "this model is not loaded", field="model")
        entry.leases += 1
        entry.idle.clear()
        self._metrics.leases.inc()
        try:
            yield entry.model
        finally:
            entry.leases -= 1
            self._metrics.leases.dec()
            if entry.leases == 0:
                entry.idle.set()

    async def open(self, path: Path) -> ModelId:
        """Loads a bundle from a path and makes it current. Raises BundleError or EngineError."""
        model = await ServedModel.load(path, self._config, self._metrics, self._engine_factory)
        return self._install(model)

    async def load(self, name: str, version: str) -> ModelId:
        """Loads a version from the directory of models and makes it current, in one step.

        A version that is loaded already is only made current. Raises ServingError; the version
        before then stays.
        """
        if self._config.models is None:
            raise ServingError(ErrorKind.CONFLICT, "this server has no directory of models")
        if not is_name(name) or (version and not is_name(version)):
            raise ServingError(ErrorKind.INVALID, "name, version: not names", field="name")
        async with self._loading:
            directory = Path(self._config.models) / name
            try:
                model_id = ModelId(name=name, version=version or current_version(directory))
            except BundleError:
                raise _unknown() from None
            if model_id in self._entries:
                self._make_current(model_id)
                return model_id
            if not (directory / model_id.version).is_dir():
                raise _unknown()
            if len(self._entries) >= self._config.max_models:
                raise ServingError(
                    ErrorKind.CONFLICT, "too many models are loaded: unload one first"
                )
            return await self._load_new(model_id, directory / model_id.version)

    async def _load_new(self, model_id: ModelId, path: Path) -> ModelId:
        self._unfinished[model_id] = VersionState.LOADING
        try:
            model = await ServedModel.load(path, self._config, self._metrics, self._engine_factory)
            if model.id != model_id:
                await model.close()
                raise BundleError("the manifest names another model")
        except (BundleError, EngineError, StartupError, OSError) as error:
            log.error("load: %s", error)
            self._unfinished[model_id] = VersionState.FAILED
            message = "the bundle cannot be loaded; the server's log says why"
            raise ServingError(ErrorKind.CONFLICT, message) from None
        except BaseException:
            del self._unfinished[model_id]
            raise
        del self._unfinished[model_id]
        return self._install(model)

    def _install(self, model: ServedModel) -> ModelId:
        entry = _LoadedVersion(model=model)
        entry.idle.set()
        entry.watch = asyncio.get_running_loop().create_task(self._watch(entry))
        self._entries[model.id] = entry
        self._default = self._default or model.id.name
        self._make_current(model.id)
        return model.id

    def _make_current(self, model_id: ModelId) -> None:
        self._current[model_id.name] = model_id
        self._changed()

    async def unload(self, selector: ModelSelector) -> list[ModelId]:
        """Takes versions out of service and frees each when its last call has ended.

        Raises ServingError when nothing matches, or nothing would be left of the default model.
        """
        chosen = [
            model_id
            for model_id in self._entries
            if model_id.name == selector.name and selector.version in ("", model_id.version)
        ]
        if not chosen:
            raise ServingError(ErrorKind.NOT_FOUND, "this model is not loaded", field="name")
        rest = [m for m in self._entries if m.name == selector.name and m not in chosen]
        if selector.name == self._default and not rest:
            raise ServingError(ErrorKind.CONFLICT, "the default model must keep one version")
        entries = [self._entries.pop(model_id) for model_id in chosen]
        if self._current[selector.name] in chosen:
            del self._current[selector.name]
            if rest:
                self._make_current(rest[-1])
        await asyncio.shield(asyncio.gather(*(self._retire(entry) for entry in entries)))
        return chosen

    async def close(self) -> None:
        """Frees every model, without waiting for its calls."""
        for entry in self._entries.values():
            await self._end(entry)
        self._entries.clear()
        self._current.clear()

    async def _retire(self, entry: _LoadedVersion) -> None:
        await entry.idle.wait()
        await self._end(entry)

    async def _end(self, entry: _LoadedVersion) -> None:
        if entry.watch is not None:
            entry.watch.cancel()
        await entry.model.close()

    async def _watch(self, entry: _LoadedVersion) -> None:
        """Probes a model when items fail in a row; out of service until a probe succeeds."""
        seconds = self._config.probe_s
        while True:
            await entry.model.suspect.wait()
            healthy = await entry.model.probe(max(seconds, 5.0))
            if healthy != entry.healthy:
                log.warning("model %s: %s", entry.model.id.version, "well" if healthy else "broken")
                entry.healthy = healthy
                if not healthy:
                    self._roll_back(entry.model.id)
            self._changed()  # its chat may have ended alone
            if not healthy:
                await asyncio.sleep(seconds)

    def _roll_back(self, broken: ModelId) -> None:
        """Makes the last loaded version that is well current in place of a broken one."""
        if self._current.get(broken.name) != broken:
            return
        for model_id, entry in reversed(self._entries.items()):
            if model_id.name == broken.name and entry.healthy:
                log.warning("model %s: back to version %s", broken.name, model_id.version)
                self._current[broken.name] = model_id
                return


def _unknown() -> ServingError:
    return ServingError(ErrorKind.NOT_FOUND, "no such model in the directory", field="name")
