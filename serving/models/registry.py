"""The loaded models: names and versions, leases, atomic switches, and a watch over each model."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bundle.store import BundleError, current_version
from bundle.verify import is_name
from serving.core.config import ServerConfig
from serving.core.errors import ErrorKind, ServingError, StartupError
from serving.core.metrics import Metrics
from serving.core.requests import ModelId, ModelSelector
from serving.engines.base import EngineError, EngineFactory
from serving.models.load_model import ChatLoadError, load_model
from serving.models.loaded_model import ServedModel
from serving.models.loaded_version import LoadedVersion, VersionState, VersionStatus

log = logging.getLogger(__name__)

_MIN_PROBE_TIMEOUT_S = 5.0
"""A probe may take this long, however often the configuration asks for one."""


class Registry:
    """Hands out models. The model of the first version that is loaded is the default."""

    def __init__(
        self,
        config: ServerConfig,
        metrics: Metrics,
        engine_factory: EngineFactory,
        on_change: Callable[[], None],
    ) -> None:
        """`on_change` is called when what is served, or its health, may have changed."""
        self._config = config
        self._metrics = metrics
        self._engine_factory = engine_factory
        self._on_change = on_change
        self._loaded: dict[ModelId, LoadedVersion] = {}
        # The version that each model's calls get when they name none. All access is from the event
        # loop, so one assignment here is the whole switch: a call sees the old version or the new.
        self._current: dict[str, ModelId] = {}
        self._default_name = ""
        self._unfinished: dict[ModelId, VersionState] = {}
        self._loading = asyncio.Lock()
        self._loads: set[asyncio.Task[ModelId]] = set()
        self._leaving: dict[LoadedVersion, asyncio.Task[None]] = {}
        """Versions out of service that calls still hold. They are in memory, so they count for
        max_models."""

    @property
    def healthy(self) -> bool:
        """Whether the default model answers."""
        default = self._default()
        return default is not None and default.healthy

    @property
    def has_chat(self) -> bool:
        """Whether the default model answers conversations."""
        default = self._default()
        return default is not None and default.model.has_chat

    def _default(self) -> LoadedVersion | None:
        model_id = self._current.get(self._default_name)
        return None if model_id is None else self._loaded[model_id]

    @property
    def default_model(self) -> ServedModel | None:
        """The model of calls that name none, for one turn of the event loop."""
        return default.model if (default := self._default()) else None

    @property
    def models(self) -> list[ServedModel]:
        """Every model that is loaded."""
        return [version.model for version in self._loaded.values()]

    def versions(self) -> list[VersionStatus]:
        """Every version that is loaded, is being loaded, or could not be loaded."""
        return [
            VersionStatus(
                id=model_id,
                state=VersionState.SERVING if version.healthy else VersionState.FAILED,
                is_default=model_id == self._current.get(self._default_name),
                engine=version.model.engine.description,
            )
            for model_id, version in self._loaded.items()
        ] + [
            VersionStatus(id=model_id, state=state, is_default=False, engine="")
            for model_id, state in self._unfinished.items()
        ]

    @contextmanager
    def lease(self, selector: ModelSelector) -> Iterator[ServedModel]:
        """The model that a caller names; it stays loaded until the block ends.

        Raises ServingError when it is not loaded.
        """
        version = self._find(selector)
        if version is None:
            raise ServingError(ErrorKind.NOT_FOUND, "this model is not loaded", field="model")
        # Unloading removes a version from `_loaded` first and closes it when its last lease ends.
        # So no lease begins on a version that is leaving, and none loses its model half-way.
        with version.lease() as model, self._metrics.leases:
            yield model

    def is_ready(self, selector: ModelSelector) -> bool:
        """Whether the model that a caller names is loaded and answers."""
        version = self._find(selector)
        return version is not None and version.healthy

    def _find(self, selector: ModelSelector) -> LoadedVersion | None:
        name = selector.name or self._default_name
        if selector.version:
            model_id: ModelId | None = ModelId(name=name, version=selector.version)
        else:
            model_id = self._current.get(name)
        return self._loaded.get(model_id) if model_id else None

    async def open(self, path: Path) -> ModelId:
        """Loads a bundle from a path and makes it current. Raises what load_model raises."""
        model = await load_model(path, self._config, self._metrics, self._engine_factory)
        return self._install(model)

    async def load(self, name: str, version: str) -> ModelId:
        """Loads a version from the directory of models and makes it current.

        Without a version, the directory's current one is loaded. A version that is loaded already
        is only made current. Raises ServingError; what was current then stays so. A caller who
        leaves ends the load, and the next one begins when nothing of it is left.
        """
        if self._config.models is None:
            raise ServingError(ErrorKind.CONFLICT, "this server has no directory of models")
        if not is_name(name) or (version and not is_name(version)):
            raise ServingError(ErrorKind.INVALID, "name, version: not names", field="name")
        loading = asyncio.create_task(self._load_alone(Path(self._config.models) / name, version))
        self._loads.add(loading)
        loading.add_done_callback(self._loads.discard)
        try:
            return await asyncio.shield(loading)
        except asyncio.CancelledError:
            loading.cancel()  # it holds the lock until a thread that cannot be ended has ended
            raise

    async def _load_alone(self, directory: Path, version: str) -> ModelId:
        async with self._loading:  # one at a time: two could pass the check of max_models together
            name = directory.name
            try:
                model_id = ModelId(name=name, version=version or current_version(directory))
            except BundleError:
                raise _no_such_model() from None
            if model_id in self._loaded:
                self._make_current(model_id)
                return model_id
            if not (directory / model_id.version).is_dir():
                raise _no_such_model()
            if len(self._loaded) + len(self._leaving) >= self._config.max_models:
                message = "too many models are loaded: unload one first"
                if self._leaving:
                    message = "too many models are loaded: calls still use one that is unloaded"
                raise ServingError(ErrorKind.CONFLICT, message)
            return await self._load_new(model_id, directory / model_id.version)

    async def _load_new(self, model_id: ModelId, path: Path) -> ModelId:
        self._unfinished[model_id] = VersionState.LOADING
        try:
            model = await load_model(
                path, self._config, self._metrics, self._engine_factory, guarded=True
            )
            if model.id != model_id:
                await model.close()
                raise BundleError("the manifest names another model")
        except (BundleError, EngineError, StartupError, OSError) as error:
            log.error("load: %s", error)
            self._unfinished[model_id] = VersionState.FAILED
            part = "the bundle's chat" if isinstance(error, ChatLoadError) else "the bundle"
            message = f"{part} cannot be loaded; the server's log says why"
            raise ServingError(ErrorKind.CONFLICT, message) from None
        except BaseException:
            del self._unfinished[model_id]
            raise
        del self._unfinished[model_id]
        return self._install(model)

    def _install(self, model: ServedModel) -> ModelId:
        version = LoadedVersion(model=model)
        version.watch = asyncio.get_running_loop().create_task(self._watch(version))
        self._loaded[model.id] = version
        self._default_name = self._default_name or model.id.name
        self._make_current(model.id)
        return model.id

    def _make_current(self, model_id: ModelId) -> None:
        self._current[model_id.name] = model_id
        self._on_change()

    async def unload(self, selector: ModelSelector) -> list[ModelId]:
        """Takes versions out of service, and frees each one when its last call has ended.

        Without a version, every version of the model is unloaded. Raises ServingError when none is
        loaded, or when the default model would be left without a version.
        """
        loaded = [model_id for model_id in self._loaded if model_id.name == selector.name]
        leaving = [m for m in loaded if selector.version in ("", m.version)]
        staying = [m for m in loaded if m not in leaving]
        if not leaving:
            raise ServingError(ErrorKind.NOT_FOUND, "this model is not loaded", field="name")
        if selector.name == self._default_name and not staying:
            raise ServingError(ErrorKind.CONFLICT, "the default model must keep one version")
        versions = [self._loaded.pop(model_id) for model_id in leaving]
        if self._current[selector.name] in leaving:
            del self._current[selector.name]
            if staying:
                self._make_current(staying[-1])
        # `wait` ends no task: what is out of service is freed, even if the caller leaves.
        retiring = [self._retire(version) for version in versions]
        await asyncio.wait(retiring)
        for task in retiring:
            task.result()
        return leaving

    def _retire(self, version: LoadedVersion) -> asyncio.Task[None]:
        task = self._leaving[version] = asyncio.get_running_loop().create_task(version.retire())
        task.add_done_callback(lambda _: self._leaving.pop(version))
        return task

    async def close(self) -> None:
        """Frees every model, without waiting for its calls."""
        for loading in self._loads:
            loading.cancel()
        for version in self._leaving:
            version.give_up_calls()
        await asyncio.gather(*self._loads, *self._leaving.values(), return_exceptions=True)
        self._current.clear()
        while self._loaded:
            await self._loaded.popitem()[1].free()

    async def _watch(self, version: LoadedVersion) -> None:
        """Probes a suspect model. One that fails is out of service until a probe succeeds."""
        interval_s = self._config.probe_s
        while True:
            await version.model.suspect.wait()
            healthy = await version.model.probe(max(interval_s, _MIN_PROBE_TIMEOUT_S))
            if healthy != version.healthy:
                name = version.model.id.version
                log.warning("model %s: %s", name, "healthy again" if healthy else "fails its probe")
                version.healthy = healthy
                if not healthy:
                    self._roll_back(version.model.id)
            self._on_change()  # even if health is the same: the chat engine alone may have ended
            if not healthy:
                await asyncio.sleep(interval_s)

    def _roll_back(self, broken: ModelId) -> None:
        """Makes the healthy version that was loaded last current, in place of a broken one."""
        if self._current.get(broken.name) != broken:
            return
        for model_id, version in reversed(self._loaded.items()):
            if model_id.name == broken.name and version.healthy:
                log.warning("model %s: back to version %s", broken.name, model_id.version)
                self._current[broken.name] = model_id
                return


def _no_such_model() -> ServingError:
    return ServingError(ErrorKind.NOT_FOUND, "no such model in the directory", field="name")
