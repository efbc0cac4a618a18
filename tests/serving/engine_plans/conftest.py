"""What the tests of plans share: a small bundle, an empty cache, an engine whose bf16 is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundle.plugins import Plugin
from bundle.store import Bundle, open_bundle
from serving.engine_plans.build_plan import ReferenceOutputs
from serving.engine_plans.plan_cache import PlanCache
from serving.engines import ENGINES
from serving.engines.base import EngineConfig
from tests.serving.engine_plans.shaky_engine import ShakyEngine

SHAKY = Plugin("tests.serving.engine_plans.shaky_engine:ShakyEngine")


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def reference(bundle: Bundle) -> ReferenceOutputs:
    return ReferenceOutputs(bundle, cores=1)


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "engines")


@pytest.fixture
def shaky(monkeypatch: pytest.MonkeyPatch) -> type[ShakyEngine]:
    monkeypatch.setitem(ENGINES.table, "shaky", SHAKY)
    monkeypatch.setattr(ShakyEngine, "built", [])
    return ShakyEngine


def config(name: str, precision: str, **others: object) -> EngineConfig:
    return EngineConfig(name=name, precision=precision, threads=1, runs=1, **others)  # type: ignore[arg-type]
