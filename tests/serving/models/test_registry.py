"""Leases, switches and the watch over models, with models that only count what happens to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bundle.store import BundleError
from serving.core.config import ServerConfig
from serving.core.errors import ErrorKind, ServingError
from serving.core.metrics import Metrics
from serving.core.requests import ModelId, ModelSelector
from serving.models.loaded_version import VersionState
from serving.models.registry import Registry
from tests.serving.support.running_server import eventually


class CountingModel:
    """Stands for a ServedModel."""

    def __init__(self, name: str, version: str) -> None:
        self.id = ModelId(name=name, version=version)
        self.engine = SimpleNamespace(description="an engine")
        self.has_chat = False
        self.suspect = asyncio.Event()
        self.healthy = True
        self.probes = 0
        self.closed = 0

    async def probe(self, seconds: float) -> bool:
        self.probes += 1
        if self.healthy:
            self.suspect.clear()
        return self.healthy

    async def close(self) -> None:
        self.closed += 1


Load = Callable[..., Any]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A directory of models: `a` with versions 1 to 4, of which 2 is current."""
    for version in "1234":
        (tmp_path / "a" / version).mkdir(parents=True)
    (tmp_path / "a" / "CURRENT").write_text("2\n")
    return tmp_path


@pytest.fixture
def load_model(monkeypatch: pytest.MonkeyPatch) -> dict[Path, Exception | CountingModel]:
    """What loading a path gives; a test may put errors or models of its own here."""
    given: dict[Path, Exception | CountingModel] = {}

    async def load(path: Path, *_: object, guarded: bool = False) -> CountingModel:
        outcome = given.get(path) or CountingModel(path.parent.name, path.name)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr("serving.models.registry.load_model", load)
    return given


async def registry_of(models: Path, **settings: Any) -> Registry:
    """A registry that has loaded version 1."""
    config = ServerConfig(models=str(models), probe_s=0.01, **settings)
    factory: Any = None
    registry = Registry(config, Metrics(), factory, lambda: None)
    await registry.open(models / "a" / "1")
    return registry


def version_of(registry: Registry, **selector: str) -> str:
    with registry.lease(ModelSelector(**selector)) as model:
        return model.id.version


pytestmark = pytest.mark.usefixtures("load_model")


async def test_a_lease_names_a_version_or_gets_the_current_one(models: Path) -> None:
    registry = await registry_of(models)
    await registry.load("a", "3")
    assert version_of(registry) == version_of(registry, name="a") == "3"
    assert version_of(registry, version="1") == "1"
    for selector in (ModelSelector(name="b"), ModelSelector(name="a", version="4")):
        with pytest.raises(ServingError) as caught, registry.lease(selector):
            pass
        assert (caught.value.kind, caught.value.field) == (ErrorKind.NOT_FOUND, "model")
    await registry.close()


async def test_a_version_is_freed_when_its_last_lease_ends(models: Path) -> None:
    registry = await registry_of(models)
    await registry.load("a", "2")
    one = ModelSelector(version="1")
    with registry.lease(one) as model:
        with registry.lease(one):
            unloading = asyncio.ensure_future(registry.unload(ModelSelector(name="a", version="1")))
            await asyncio.sleep(0.01)
            with pytest.raises(ServingError), registry.lease(one):  # it is leaving
                pass
        await asyncio.sleep(0.01)
        assert not unloading.done()
        assert model.closed == 0  # type: ignore[attr-defined]
    assert await unloading == [ModelId(name="a", version="1")]
    assert model.closed == 1  # type: ignore[attr-defined]
    await registry.close()


async def test_a_caller_who_leaves_does_not_stop_an_unload(models: Path) -> None:
    registry = await registry_of(models)
    await registry.load("a", "2")
    with registry.lease(ModelSelector(version="1")) as model:
        unloading = asyncio.ensure_future(registry.unload(ModelSelector(name="a", version="1")))
        await asyncio.sleep(0.01)
        unloading.cancel()
        await asyncio.sleep(0.01)
    assert await eventually(lambda: model.closed == 1)  # type: ignore[attr-defined]
    await registry.close()


async def test_a_version_that_calls_still_hold_counts_for_the_bound_and_is_freed_at_the_end(
    models: Path,
) -> None:
    registry = await registry_of(models, max_models=2)
    await registry.load("a", "2")
    with registry.lease(ModelSelector(version="1")) as model:
        unloading = asyncio.ensure_future(registry.unload(ModelSelector(name="a", version="1")))
        await asyncio.sleep(0.01)
        with pytest.raises(ServingError, match="calls still use one that is unloaded"):
            await registry.load("a", "3")
        await registry.close()  # which waits for no call
        assert model.closed == 1  # type: ignore[attr-defined]
        await unloading
    assert model.closed == 1  # type: ignore[attr-defined]


async def test_the_directory_says_which_version_is_current(models: Path) -> None:
    registry = await registry_of(models)
    assert (await registry.load("a", "")).version == "2"
    assert (await registry.load("a", "1")).version == "1"  # loaded already: only made current
    assert version_of(registry) == "1"
    assert len(registry.models) == 2
    await registry.close()


async def test_a_failed_load_changes_nothing_and_is_listed(
    models: Path, load_model: dict[Path, Exception | CountingModel]
) -> None:
    registry = await registry_of(models)
    load_model[models / "a" / "3"] = BundleError("image.onnx: /secret/path")
    other = load_model[models / "a" / "4"] = CountingModel("b", "4")
    for version in "34":
        with pytest.raises(ServingError) as caught:
            await registry.load("a", version)
        assert caught.value.kind is ErrorKind.CONFLICT
        assert "secret" not in caught.value.message
    assert isinstance(other, CountingModel)
    assert other.closed == 1
    assert version_of(registry) == "1"
    states = {status.id.version: status.state for status in registry.versions()}
    failed = VersionState.FAILED
    assert states == {"1": VersionState.SERVING, "3": failed, "4": failed}
    await registry.close()


async def test_bounds_of_what_is_loaded(models: Path) -> None:
    registry = await registry_of(models, max_models=2)
    await registry.load("a", "2")
    with pytest.raises(ServingError, match="too many models"):
        await registry.load("a", "3")
    with pytest.raises(ServingError, match="must keep one version"):
        await registry.unload(ModelSelector(name="a"))
    with pytest.raises(ServingError) as caught:
        await registry.unload(ModelSelector(name="b"))
    assert caught.value.kind is ErrorKind.NOT_FOUND
    await registry.unload(ModelSelector(name="a", version="2"))
    assert version_of(registry) == "1"
    await registry.close()


async def test_a_model_that_fails_its_probe_gives_way_to_the_last_healthy_version(
    models: Path, load_model: dict[Path, Exception | CountingModel]
) -> None:
    broken = load_model[models / "a" / "3"] = CountingModel("a", "3")
    assert isinstance(broken, CountingModel)
    registry = await registry_of(models)
    await registry.load("a", "2")
    await registry.load("a", "3")
    broken.healthy = False
    broken.suspect.set()
    assert await eventually(lambda: version_of(registry) == "2")
    assert registry.healthy
    assert await eventually(lambda: broken.probes > 2)  # it is probed until it answers
    broken.healthy = True
    states = {VersionState.SERVING}
    assert await eventually(lambda: {status.state for status in registry.versions()} == states)
    assert version_of(registry) == "2"  # a version that recovers does not take over by itself
    await registry.close()


async def test_the_only_version_stays_current_though_it_is_broken(models: Path) -> None:
    registry = await registry_of(models)
    [model] = registry.models
    model.healthy = False  # type: ignore[attr-defined]
    model.suspect.set()
    assert await eventually(lambda: not registry.healthy)
    assert version_of(registry) == "1"
    model.healthy = True  # type: ignore[attr-defined]
    assert await eventually(lambda: registry.healthy)
    await registry.close()
