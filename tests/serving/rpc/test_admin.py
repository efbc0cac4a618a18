"""AdminService: versions are loaded, switched and unloaded under load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from sparseclip.v1 import (
    admin_pb2,
    admin_pb2_grpc,
)
from tests.serving.support.certificates import ROOT, bearer, write_tokens
from tests.serving.support.model_versions import three_versions
from tests.serving.support.running_server import (
    PNG,
    Running,
    blocked,
    embed_request,
    eventually,
    refused,
    serving,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


ROOT_METADATA = bearer(ROOT)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(tiny_bundle: Path, tmp_path_factory: Any) -> AsyncIterator[tuple[Running, Any]]:
    """A server over a directory with versions 1, 2 and a damaged 3, and its admin stub."""
    models = tmp_path_factory.mktemp("models") / "models"
    first = three_versions(tiny_bundle, models)
    tokens = write_tokens(models.parent / "tokens.json")
    async with serving(first, models=str(models), tokens=str(tokens), admin_port=0) as running:
        assert running.server.admin_address
        async with grpc.aio.insecure_channel(running.server.admin_address) as channel:
            yield running, admin_pb2_grpc.AdminServiceStub(channel)  # type: ignore[no-untyped-call]


async def version_served(running: Running) -> str:
    reply = await running.stub.Embed(embed_request(PNG), metadata=ROOT_METADATA)
    assert reply.results[0].status.code == 0
    return str(reply.model.version)


async def test_load_switches_and_a_failed_load_keeps_the_old(admin: tuple[Running, Any]) -> None:
    running, stub = admin
    load = admin_pb2.LoadModelRequest(name="tiny")
    stop = asyncio.Event()

    async def calls() -> set[str]:
        seen = set()
        while not stop.is_set():
            seen.add(await version_served(running))
        return seen

    load_of_calls = asyncio.ensure_future(calls())
    reply = await stub.LoadModel(load, metadata=ROOT_METADATA, timeout=60)
    assert reply.model.version == "2"
    assert await version_served(running) == "2"
    broken = admin_pb2.LoadModelRequest(name="tiny", version="3")
    error = await refused(stub.LoadModel(broken, metadata=ROOT_METADATA, timeout=60))
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    assert await version_served(running) == "2"
    status = await stub.GetStatus(admin_pb2.GetStatusRequest(), metadata=ROOT_METADATA)
    states = {model.model.version: model.state for model in status.models}
    assert states == {
        "1": admin_pb2.MODEL_STATE_SERVING,
        "2": admin_pb2.MODEL_STATE_SERVING,
        "3": admin_pb2.MODEL_STATE_FAILED,
    }
    assert [m.model.version for m in status.models if m.is_default] == ["2"]
    stop.set()
    assert await load_of_calls <= {"1", "2"}


async def test_unload_waits_for_calls(admin: tuple[Running, Any]) -> None:
    running, stub = admin
    await stub.LoadModel(
        admin_pb2.LoadModelRequest(name="tiny", version="2"), metadata=ROOT_METADATA, timeout=60
    )
    request = embed_request(PNG)
    request.model.version = "1"
    with blocked(running):  # the first engine, which is version 1's
        call = asyncio.ensure_future(
            running.stub.Embed(request, metadata=ROOT_METADATA, timeout=60)
        )
        assert await eventually(running.engine.entered.is_set)
        unload = asyncio.ensure_future(
            stub.UnloadModel(
                admin_pb2.UnloadModelRequest(name="tiny", version="1"),
                metadata=ROOT_METADATA,
                timeout=60,
            )
        )
        assert await eventually(lambda: len(running.server.registry.models) == 1)
        again = await refused(running.stub.Embed(request, metadata=ROOT_METADATA, timeout=60))
        assert again.code is grpc.StatusCode.NOT_FOUND
        assert not unload.done()
    assert (await call).results[0].status.code == 0
    assert [model.version for model in (await unload).unloaded] == ["1"]
    last = admin_pb2.UnloadModelRequest(name="tiny")
    error = await refused(stub.UnloadModel(last, metadata=ROOT_METADATA))
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("name", "version", "code"),
    [
        ("../tiny", "1", grpc.StatusCode.INVALID_ARGUMENT),
        ("tiny", "../1", grpc.StatusCode.INVALID_ARGUMENT),
        ("", "", grpc.StatusCode.INVALID_ARGUMENT),
        ("/etc", "", grpc.StatusCode.INVALID_ARGUMENT),
        ("absent", "", grpc.StatusCode.NOT_FOUND),
        ("tiny", "absent", grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_models_are_named_never_addressed(
    admin: tuple[Running, Any], name: str, version: str, code: grpc.StatusCode
) -> None:
    request = admin_pb2.LoadModelRequest(name=name, version=version)
    error = await refused(admin[1].LoadModel(request, metadata=ROOT_METADATA))
    assert error.code is code
