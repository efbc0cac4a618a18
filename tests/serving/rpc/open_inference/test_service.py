"""What the protocol says of the server and its models, and who may ask for what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2

from bundle.store import open_bundle
from serving.rpc.open_inference import open_inference_pb2 as pb
from serving.rpc.open_inference.service import INFERENCE_SERVICE
from tests.serving.rpc.open_inference.infer_requests import infer_request, stub
from tests.serving.support.certificates import ALICE, ROOT, bearer, write_tokens
from tests.serving.support.model_versions import three_versions
from tests.serving.support.running_server import (
    PNG,
    Running,
    eventually,
    refused,
    serving,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADMIN = bearer(ROOT)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tiny_bundle: Path, tmp_path_factory: Any) -> AsyncIterator[Running]:
    """A server with tokens and an admin port, over a directory with versions 1, 2 and a damaged 3.
    2 is current in the directory, 1 is served."""
    models = tmp_path_factory.mktemp("models") / "models"
    first = three_versions(tiny_bundle, models)
    tokens = write_tokens(models.parent / "tokens.json")
    async with serving(
        first, models=str(models), tokens=str(tokens), admin_port=0, token=ALICE
    ) as running:
        yield running


async def index(running: Running, **asked: Any) -> dict[str, str]:
    """The state of each version."""
    request = pb.RepositoryIndexRequest(**asked)
    reply = await stub(running).RepositoryIndex(request, metadata=running.metadata)
    assert {model.name for model in reply.models} == {"tiny"}
    return {model.version: model.state for model in reply.models}


async def test_a_server_says_that_it_is_alive_to_anyone(guarded: Running) -> None:
    service = stub(guarded)
    assert (await service.ServerLive(pb.ServerLiveRequest())).live
    assert (await service.ServerReady(pb.ServerReadyRequest())).ready
    for call in (
        service.ModelReady(pb.ModelReadyRequest(name="tiny")),
        service.ServerMetadata(pb.ServerMetadataRequest()),
        service.ModelInfer(infer_request("text", [b"a"])),
        service.RepositoryIndex(pb.RepositoryIndexRequest()),
    ):
        assert (await refused(call)).code is grpc.StatusCode.UNAUTHENTICATED


async def test_a_broken_or_draining_server_is_alive_and_not_ready(tiny_bundle: Path) -> None:
    async with serving(tiny_bundle, failures_before_probe=1) as running:
        service = stub(running)

        async def ready() -> list[bool]:
            server = await service.ServerReady(pb.ServerReadyRequest())
            model = await service.ModelReady(pb.ModelReadyRequest(name="tiny"))
            assert (await service.ServerLive(pb.ServerLiveRequest())).live
            return [server.ready, model.ready]

        assert await ready() == [True, True]
        running.engine.poison = lambda row: True
        await refused(service.ModelInfer(infer_request("image", [PNG])))

        async def is_broken() -> bool:
            return await ready() == [False, False]

        async def is_whole() -> bool:
            return await ready() == [True, True]

        assert await eventually(is_broken)
        running.engine.poison = lambda row: False
        assert await eventually(is_whole)
        await running.server.drain()
        assert await ready() == [False, False]
        error = await refused(service.ServerMetadata(pb.ServerMetadataRequest()))
        assert error.code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [("tiny", "", True), ("", "", True), ("tiny", "1", True), ("tiny", "9", False), ("no", "", 0)],
)
async def test_a_model_that_is_not_loaded_is_not_ready(
    shared: Running, name: str, version: str, ready: bool
) -> None:
    request = pb.ModelReadyRequest(name=name, version=version)
    assert (await stub(shared).ModelReady(request)).ready is bool(ready)


async def test_the_tensors_of_a_model(shared: Running, tiny_bundle: Path) -> None:
    architecture = open_bundle(tiny_bundle).manifest.architecture
    width = architecture.image_topk if architecture.image_topk == architecture.text_topk else -1
    outputs = [
        ("indices", "INT32", [-1, width]),
        ("values", "FP32", [-1, width]),
        ("active", "INT32", [-1]),
        ("norm", "FP32", [-1]),
        ("names", "BYTES", [-1, -1]),
        ("dense", "FP32", [-1, architecture.dense_dim]),
    ]
    metadata = await stub(shared).ModelMetadata(pb.ModelMetadataRequest(name="tiny"))
    assert (metadata.name, metadata.versions) == ("tiny", ["1"])
    assert dict(metadata.properties) == {"kind": "sparse", "concepts": "256"}
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [
        ("image", "BYTES", [-1]),
        ("text", "BYTES", [-1]),
    ]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == outputs
    config = (await stub(shared).ModelConfig(pb.ModelConfigRequest(name="tiny"))).config
    assert (config.name, config.max_batch_size) == ("tiny", 0)
    types = {pb.TYPE_INT32: "INT32", pb.TYPE_FP32: "FP32", pb.TYPE_STRING: "BYTES"}
    assert [(t.name, types[t.data_type], list(t.dims)) for t in config.output] == outputs
    assert [(t.name, types[t.data_type], t.optional) for t in config.input] == [
        ("image", "BYTES", True),
        ("text", "BYTES", True),
    ]
    for method, request in (
        ("ModelMetadata", pb.ModelMetadataRequest(name="no")),
        ("ModelConfig", pb.ModelConfigRequest(name="tiny", version="9")),
        ("ModelStatistics", pb.ModelStatisticsRequest(name="no")),
    ):
        error = await refused(getattr(stub(shared), method)(request))
        assert error.code is grpc.StatusCode.NOT_FOUND


async def test_the_server_names_what_it_can_do(shared: Running) -> None:
    reply = await stub(shared).ServerMetadata(pb.ServerMetadataRequest())
    assert reply.name == "sparseclip"
    assert "statistics" in reply.extensions
    health = await shared.health.Check(health_pb2.HealthCheckRequest(service=INFERENCE_SERVICE))
    assert health.status == health_pb2.HealthCheckResponse.SERVING


async def test_statistics_count_calls_and_what_the_engine_ran(tiny_bundle: Path) -> None:
    async with serving(tiny_bundle) as running:
        service = stub(running)

        async def statistics() -> pb.ModelStatistics:
            [one] = (await service.ModelStatistics(pb.ModelStatisticsRequest())).model_stats
            return one

        before = await statistics()
        await service.ModelInfer(infer_request("image", [PNG] * 3, "norm"))
        await service.ModelInfer(infer_request("text", [b"a"], "norm"))
        await refused(service.ModelInfer(infer_request("image", [b"nonsense"])))
        await refused(service.ModelInfer(infer_request("text", [b"a"], model="no")))
        after = await statistics()
        assert (after.name, after.version) == ("tiny", "1")
        assert after.inference_count - before.inference_count == 4
        assert 2 <= after.execution_count - before.execution_count <= 4
        assert after.last_inference > 1.7e12  # milliseconds since 1970
        counts = after.inference_stats
        assert (counts.success.count, counts.fail.count) == (2, 1)
        for stage in (counts.queue, counts.compute_input, counts.compute_infer):
            assert stage.count == 2
        assert counts.success.ns > counts.compute_infer.ns > 0
        assert counts.compute_output.ns > 0


async def test_models_are_loaded_and_unloaded_by_admins_alone(guarded: Running) -> None:
    service = stub(guarded)
    load, unload = (
        pb.RepositoryModelLoadRequest(model_name="tiny"),
        pb.RepositoryModelUnloadRequest(model_name="tiny"),
    )
    assert await index(guarded) == {"1": "READY"}
    for call in (
        service.RepositoryModelLoad(load, metadata=guarded.metadata),
        service.RepositoryModelUnload(unload, metadata=guarded.metadata),
    ):
        assert (await refused(call)).code is grpc.StatusCode.PERMISSION_DENIED
    await service.RepositoryModelLoad(load, metadata=ADMIN, timeout=60)
    assert await index(guarded) == {"1": "READY", "2": "READY"}
    reply = await service.ModelInfer(infer_request("text", [b"a"]), metadata=guarded.metadata)
    assert reply.model_version == "2"
    metadata = await service.ModelMetadata(pb.ModelMetadataRequest(), metadata=guarded.metadata)
    assert metadata.versions == ["1", "2"]
    (guarded.server.config.bundle_path.parent / "CURRENT").write_text("3\n")
    error = await refused(service.RepositoryModelLoad(load, metadata=ADMIN, timeout=60))
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    assert await index(guarded) == {"1": "READY", "2": "READY", "3": "UNAVAILABLE"}
    assert await index(guarded, ready=True) == {"1": "READY", "2": "READY"}
    error = await refused(service.RepositoryModelUnload(unload, metadata=ADMIN))
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION  # the default model keeps a version


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        (
            "RepositoryModelLoad",
            pb.RepositoryModelLoadRequest(model_name="tiny", repository_name="a"),
            "repository_name",
        ),
        ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="../tiny"), "name"),
        (
            "RepositoryModelLoad",
            pb.RepositoryModelLoadRequest(
                model_name="tiny",
                parameters={"config": pb.ModelRepositoryParameter(string_param="{}")},
            ),
            "parameters",
        ),
        (
            "RepositoryModelUnload",
            pb.RepositoryModelUnloadRequest(
                model_name="tiny",
                parameters={"unload": pb.ModelRepositoryParameter(bool_param=True)},
            ),
            "parameters",
        ),
        ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="no"), "name"),
        ("RepositoryIndex", pb.RepositoryIndexRequest(repository_name="a"), "repository_name"),
    ],
)
async def test_what_an_admin_asks_wrongly_is_named(
    guarded: Running, method: str, request_: Any, field: str
) -> None:
    error = await refused(getattr(stub(guarded), method)(request_, metadata=ADMIN))
    assert [violation.field for violation in error.violations] == [field]


async def test_without_an_admin_port_nobody_loads_models(tiny_bundle: Path, tmp_path: Path) -> None:
    tokens = write_tokens(tmp_path / "tokens.json")
    models = str(tiny_bundle.parent.parent)
    load = pb.RepositoryModelLoadRequest(model_name="tiny")
    async with serving(tiny_bundle, models=models, tokens=str(tokens)) as running:
        error = await refused(stub(running).RepositoryModelLoad(load, metadata=ADMIN))
        assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    async with serving(tiny_bundle, models=models) as running:
        error = await refused(stub(running).RepositoryModelLoad(load))
        assert error.code is grpc.StatusCode.PERMISSION_DENIED
