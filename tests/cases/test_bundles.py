"""Bundles that must not be served, by every way in: opened, loaded by an operator, started with."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from bundle.store import BundleError, open_bundle
from serving.core.metrics import Metrics
from serving.engine_plans.open_engine import open_engine
from serving.models.load_model import load_model
from sparseclip.v1 import admin_pb2, admin_pb2_grpc
from tests.cases.bundles import CASES, BundleCase, write_case
from tests.cases.damaged_graphs import added_to_norm, endless
from tests.serving.support.certificates import ROOT, bearer, write_tokens
from tests.serving.support.running_server import Running, config_for, refused, serving

pytestmark = [pytest.mark.kind("K8"), pytest.mark.asyncio(loop_scope="module")]

VERIFIED = [case for case in CASES if case.noticed == "verified"]
LOADED = [case for case in CASES if case.noticed == "loaded"]
CHAT_ONLY = [case for case in CASES if case.chat_only]


@pytest.fixture(scope="module")
def models(chat_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of models: `tiny` has a good version, and one for each case."""
    folder: Path = tmp_path_factory.mktemp("bundles")
    good = BundleCase(name="good", damage=lambda root: None, noticed="loaded", message="")
    write_case(chat_bundle, folder / "tiny" / "good", good)
    for number, case in enumerate(CASES):
        write_case(chat_bundle, folder / "tiny" / f"case-{number}", case)
    return folder


@pytest.fixture(autouse=True)
def _nothing_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A language model that somebody fetched on this machine is none that a case means."""
    monkeypatch.setenv("SPARSECLIP_CACHE", str(tmp_path))


def path_of(models: Path, case: BundleCase) -> Path:
    return models / "tiny" / f"case-{CASES.index(case)}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(models: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    tokens = write_tokens(tmp_path_factory.mktemp("tokens") / "tokens.json")
    settings = {"models": str(models), "tokens": str(tokens), "admin_port": 0}
    async with serving(models / "tiny" / "good", token=ROOT, **settings) as server:
        yield server


async def load(running: Running, version: str, timeout: float = 60) -> Any:
    async with grpc.aio.insecure_channel(running.server.admin_address or "") as channel:
        stub: Any = admin_pb2_grpc.AdminServiceStub(channel)  # type: ignore[no-untyped-call]
        request = admin_pb2.LoadModelRequest(name="tiny", version=version)
        return await stub.LoadModel(request, metadata=bearer(ROOT), timeout=timeout)


@pytest.mark.parametrize("case", VERIFIED, ids=lambda case: case.name)
async def test_opening_refuses_it(models: Path, case: BundleCase) -> None:
    with pytest.raises(BundleError) as caught:
        open_bundle(path_of(models, case))
    assert str(caught.value).startswith(case.message)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_running_server_refuses_it_and_answers_on(
    running: Running, models: Path, case: BundleCase, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        error = await refused(load(running, path_of(models, case).name))
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    subject = "the bundle's chat" if case.chat_only else "the bundle"
    assert error.message == f"{subject} cannot be loaded; the server's log says why"
    assert case.message in caplog.text
    [model] = running.server.registry.models
    assert model.id.version == "good"
    assert model.has_chat
    await running.golden()


@pytest.mark.kind("K3")
@pytest.mark.parametrize("case", CHAT_ONLY, ids=lambda case: case.name)
async def test_it_costs_the_chat_and_not_the_embeddings(models: Path, case: BundleCase) -> None:
    path = path_of(models, case)
    model = await load_model(path, config_for(path), Metrics(), open_engine)
    try:
        assert not model.has_chat
        assert await model.probe(10)
    finally:
        await model.close()


@pytest.mark.kind("K4")
async def test_a_load_ends_with_its_caller(
    running: Running, chat_bundle: Path, models: Path
) -> None:
    case = BundleCase(
        name="a graph without end",
        damage=added_to_norm(endless),
        noticed="loaded",
        message="",
    )
    write_case(chat_bundle, models / "tiny" / "endless", case)
    began = time.monotonic()
    error = await refused(load(running, "endless", timeout=4))
    assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
    # The next load waits for what is left of that one, and would wait for ever for its loop.
    reply = await load(running, "good")
    assert reply.model.version == "good"
    assert time.monotonic() - began < 60
    states = {status.id.version for status in running.server.registry.versions()}
    assert "endless" not in states


@pytest.mark.kind("K4")
async def test_loads_whose_callers_leave_are_closed(
    running: Running, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their engines are closed, also when they were opened after the caller had left."""
    opened, closed = [], []
    registry = running.server.registry

    def slow_engine(bundle: Any, config: Any, cores: int = 0) -> Any:
        engine = open_engine(bundle, config, cores)
        opened.append(engine)
        close = engine.close
        engine.close = lambda: (closed.append(engine), close())[1]  # type: ignore[method-assign]
        time.sleep(0.3)
        return engine

    async def no_trial(*_: object) -> None: ...

    monkeypatch.setattr(registry, "_engine_factory", slow_engine)
    monkeypatch.setattr("serving.models.load_model.try_graphs", no_trial)
    write = models / "tiny" / "left"
    good = BundleCase(name="left", damage=lambda root: None, noticed="loaded", message="")
    write_case(models / "tiny" / "good", write, good)
    for _ in range(3):
        loading = asyncio.create_task(registry.load("tiny", "left"))
        while not opened or len(opened) == len(closed):
            await asyncio.sleep(0.01)
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        async with registry._loading:  # held until nothing of the load is left
            assert closed == opened
    assert len(opened) == 3


async def test_a_file_that_changes_while_it_is_read_is_noticed(
    models: Path, chat_bundle: Path
) -> None:
    target = models / "tiny" / "changing"
    good = BundleCase(name="changing", damage=lambda root: None, noticed="loaded", message="")
    write_case(chat_bundle, target, good)

    def engine(bundle: Any, config: Any, cores: int = 0) -> Any:
        opened = open_engine(bundle, config, cores)
        (target / "text.onnx").write_bytes((target / "text.onnx").read_bytes())
        return opened

    with pytest.raises(BundleError, match="^text.onnx: changed while it was read$"):
        await load_model(target, config_for(target), Metrics(), engine)
