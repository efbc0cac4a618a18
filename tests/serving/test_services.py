"""What the services answer, against onnxruntime and the bundle themselves."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
import pytest
import pytest_asyncio
from PIL import Image

from bundle.image import ImageLimits, decode_image
from bundle.manifest import Manifest
from bundle.store import open_bundle
from sparseclip.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    concepts_pb2,
    concepts_pb2_grpc,
    embedding_pb2,
    types_pb2,
)
from tests.serving.harness import (
    PNG,
    Running,
    blocked,
    embed_request,
    eventually,
    picture,
    refused,
    serving,
    unharmed,
)
from tests.serving.identity import ROOT, bearer, write_tokens

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT_METADATA = bearer(ROOT)


def direct(bundle: Path, graph: str, inputs: Any) -> dict[str, Any]:
    """The graph's outputs, without the server."""
    session = onnxruntime.InferenceSession(str(open_bundle(bundle).file(f"{graph}.onnx")))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: inputs}), strict=True))


def pixels_of(bundle: Path, *data: bytes) -> Any:
    preprocessor = open_bundle(bundle).preprocessor
    return np.stack([preprocessor(decode_image(entry, ImageLimits())) for entry in data])


async def test_embed_gives_what_the_graphs_give(shared: Running, tiny_bundle: Path) -> None:
    pictures, texts = [picture(seed) for seed in range(3)], ["a red circle", ""]
    reply = await shared.stub.Embed(embed_request(*pictures, texts=tuple(texts)))
    images = direct(tiny_bundle, "image", pixels_of(tiny_bundle, *pictures))
    words = direct(tiny_bundle, "text", open_bundle(tiny_bundle).tokenizer.encode(texts))
    names = open_bundle(tiny_bundle).concepts
    for result, (outputs, row) in zip(
        reply.results, [(images, 0), (images, 1), (images, 2), (words, 0), (words, 1)], strict=True
    ):
        values, indices = outputs["values"][row], outputs["indices"][row]
        kept = values > 0
        order = np.argsort(indices[kept])
        assert list(result.sparse.indices) == indices[kept][order].tolist()
        np.testing.assert_allclose(result.sparse.values, values[kept][order], atol=1e-5)
        np.testing.assert_allclose(result.dense, outputs["dense"][row], atol=1e-5)
        np.testing.assert_allclose(result.sparse.norm, outputs["norm"][row], rtol=1e-5)
        assert result.active == outputs["active"][row]
        top = indices[np.argsort(-values, kind="stable")][:5]
        assert [concept.concept_id for concept in result.concepts] == top.tolist()
        assert [concept.name for concept in result.concepts] == [names[i].name for i in top]
        assert result.timings.inference_us > 0
    assert (reply.model.name, reply.model.version) == ("tiny", "1")
    assert reply.timings.total_us >= reply.timings.inference_us > 0


async def test_only_what_was_selected_is_sent(shared: Running) -> None:
    request = embed_request(PNG)
    request.outputs.Clear()
    result = (await shared.stub.Embed(request)).results[0]
    assert result.sparse.indices
    assert not result.dense
    assert not result.concepts
    request.outputs.dense = True
    result = (await shared.stub.Embed(request)).results[0]
    assert not result.HasField("sparse")
    assert len(result.dense) == 16


async def test_patch_codes_are_those_of_the_graph(shared: Running, tiny_bundle: Path) -> None:
    request = embed_request(PNG, texts=("a",))
    refs = [types_pb2.ConceptRef(name="dog"), types_pb2.ConceptRef(concept_id=200)]
    request.outputs.patch_concepts.extend(refs)
    reply = await shared.stub.Embed(request)
    outputs = direct(tiny_bundle, "patches", pixels_of(tiny_bundle, PNG))
    patches = reply.results[0].patches
    assert (patches.rows, patches.columns) == (4, 4)
    assert [entry.concept_id for entry in patches.maps] == [5, 200]
    for entry in patches.maps:
        hits = np.where(
            outputs["patch_indices"][0] == entry.concept_id, outputs["patch_values"][0], 0
        )
        np.testing.assert_allclose(entry.values, hits.sum(axis=1), atol=1e-5)
    assert not reply.results[1].HasField("patches")


async def test_get_model(shared: Running) -> None:
    reply = await shared.stub.GetModel(embedding_pb2.GetModelRequest())
    assert (reply.concepts, reply.image_size, reply.context_length) == (256, 32, 16)
    assert (reply.patch_rows, reply.patch_columns, reply.dense_dim) == (4, 4, 16)
    assert reply.limits.images_per_call == 32
    assert reply.limits.max_deadline_seconds == 120


async def test_unknown_models_are_not_found(shared: Running) -> None:
    for selector in (
        types_pb2.ModelSelector(name="other"),
        types_pb2.ModelSelector(version="9"),
        types_pb2.ModelSelector(name="../tiny"),
    ):
        error = await refused(shared.stub.GetModel(embedding_pb2.GetModelRequest(model=selector)))
        assert error.code is grpc.StatusCode.NOT_FOUND


def item(name: str, **content: Any) -> embedding_pb2.EmbedStreamRequest:
    return embedding_pb2.EmbedStreamRequest(input=embedding_pb2.EmbedInput(id=name, **content))


START = embedding_pb2.EmbedStreamRequest(
    start=embedding_pb2.EmbedStreamStart(outputs=embedding_pb2.OutputSelection(dense=True))
)


async def test_stream_answers_every_item(shared: Running) -> None:
    async with unharmed(shared):
        pictures = [picture(seed) for seed in range(4)]
        request = embed_request(*pictures)
        alone = [list(r.dense) for r in (await shared.stub.Embed(request)).results]
        items = [item(str(i), image=pictures[i % 4]) for i in range(200)]
        items[50] = item("50", image=b"nonsense")
        items[60] = item("60", text="a dog")
        answers = {}
        async for reply in shared.stub.EmbedStream(iter([START, *items]), timeout=60):
            assert reply.model.name == "tiny"
            answers[reply.result.id] = reply.result
        assert set(answers) == {str(i) for i in range(200)}
        for i in range(200):
            result = answers[str(i)]
            if i == 50:
                assert result.status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
            elif i != 60:
                np.testing.assert_allclose(result.dense, alone[i % 4], atol=1e-5)


BROKEN: dict[str, tuple[list[embedding_pb2.EmbedStreamRequest], str]] = {
    "nothing": ([], "start"),
    "no start": ([item("a", text="x")], "start"),
    "two starts": ([START, START], "message"),
    "an empty message": ([START, embedding_pb2.EmbedStreamRequest()], "message"),
    "no id": ([START, item("", text="x")], "input.id"),
    "no content": ([START, item("a")], "input.content"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_streams_that_break_the_contract_end(shared: Running, name: str) -> None:
    messages, field = BROKEN[name]
    async with unharmed(shared):
        call = shared.stub.EmbedStream(iter(messages), timeout=20)
        error = await refused(drain(call))
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        assert [violation.field for violation in error.violations] == [field]


async def test_an_id_in_work_is_refused(shared: Running) -> None:
    async with unharmed(shared):
        with blocked(shared):
            call = shared.stub.EmbedStream(timeout=20)
            for message in (START, item("a", image=PNG), item("a", image=PNG)):
                await call.write(message)
            batcher = shared.server.registry.models[0].batchers["image"]
            assert await eventually(lambda: batcher.room.admitted == 1)
        error = await refused(drain(call))
        assert [violation.field for violation in error.violations] == ["input.id"]


async def drain(call: Any) -> list[Any]:
    return [reply async for reply in call]


async def test_bulk_streams_leave_room_for_callers_who_wait(tiny_bundle: Path) -> None:
    limits = {"queue_images": 16, "stream_window": 64}
    async with serving(tiny_bundle, limits=limits) as running, unharmed(running):
        batcher = running.server.registry.models[0].batchers["image"]
        with blocked(running):
            items = [item(str(i), image=PNG) for i in range(40)]
            stream = asyncio.ensure_future(
                drain(running.stub.EmbedStream(iter([START, *items]), timeout=60))
            )
            assert await eventually(lambda: batcher.room.admitted == 8)
            calls = [
                asyncio.ensure_future(running.stub.Embed(embed_request(PNG), timeout=60))
                for _ in range(8)
            ]
            assert await eventually(lambda: batcher.room.admitted == 16)
        for reply in await asyncio.gather(*calls):
            assert reply.results[0].status.code == 0
        assert len(await stream) == 40


@pytest.fixture
def concepts(shared: Running) -> Any:
    return concepts_pb2_grpc.ConceptServiceStub(shared.channel)  # type: ignore[no-untyped-call]


async def test_list_concepts_pages(concepts: Any) -> None:
    seen, token = [], ""
    for _ in range(10):
        request = concepts_pb2.ListConceptsRequest(page_size=60, page_token=token)
        reply = await concepts.ListConcepts(request)
        assert reply.total == 256
        seen += [concept.concept_id for concept in reply.concepts]
        token = reply.next_page_token
        if not token:
            break
    assert seen == list(range(256))
    active = await concepts.ListConcepts(
        concepts_pb2.ListConceptsRequest(page_size=1000, active_only=True)
    )
    assert active.total == len(active.concepts) == sum(i % 7 != 6 for i in range(256))
    error = await refused(concepts.ListConcepts(concepts_pb2.ListConceptsRequest(page_token="x1")))
    assert [violation.field for violation in error.violations] == ["page_token"]


async def test_get_concept(concepts: Any) -> None:
    by_name = await concepts.GetConcept(
        concepts_pb2.GetConceptRequest(concept=types_pb2.ConceptRef(name="dog"))
    )
    by_id = await concepts.GetConcept(
        concepts_pb2.GetConceptRequest(concept=types_pb2.ConceptRef(concept_id=5))
    )
    assert by_name == by_id
    assert by_id.concept.aliases == ["dogs"]
    assert by_id.concept.words[0].source == "dog"
    assert by_id.concept.HasField("clarity")
    for ref in (types_pb2.ConceptRef(name="no"), types_pb2.ConceptRef(concept_id=256)):
        error = await refused(concepts.GetConcept(concepts_pb2.GetConceptRequest(concept=ref)))
        assert error.code is grpc.StatusCode.NOT_FOUND


async def test_search_by_name_and_by_the_text_tower(
    concepts: Any, shared: Running, tiny_bundle: Path
) -> None:
    reply = await concepts.SearchConcepts(concepts_pb2.SearchConceptsRequest(query="Dogs", limit=6))
    assert reply.matches[0].concept.name == "dog"
    assert reply.matches[0].name_match
    assert len(reply.matches) == 6
    rest = [match.activation for match in reply.matches[1:]]
    assert rest == sorted(rest, reverse=True)
    tokens = open_bundle(tiny_bundle).tokenizer.encode(["Dogs"])
    outputs = direct(tiny_bundle, "text", tokens)
    strongest = outputs["indices"][0][np.argsort(-outputs["values"][0])][:3]
    assert [m.concept.concept_id for m in reply.matches if m.activation][:3] == list(strongest)
    error = await refused(concepts.SearchConcepts(concepts_pb2.SearchConceptsRequest(query=" ")))
    assert [violation.field for violation in error.violations] == ["query"]


async def test_explain_accounts_for_the_activation(concepts: Any) -> None:
    reply = await concepts.ExplainImage(
        concepts_pb2.ExplainImageRequest(image=PNG, top_concepts=3, overlay=True)
    )
    assert (reply.rows, reply.columns) == (4, 4)
    assert len(reply.explanations) == 3
    for entry in reply.explanations:
        assert len(entry.values) == 16
        if entry.exact:
            assert np.mean(entry.values) == pytest.approx(entry.concept.value, rel=1e-3, abs=1e-4)
        with Image.open(io.BytesIO(entry.overlay_png)) as overlay:
            assert overlay.format == "PNG"
            assert overlay.size == (336, 336)
            assert np.asarray(overlay).std() > 1
    assert reply.timings.total_us > 0
    named = await concepts.ExplainImage(
        concepts_pb2.ExplainImageRequest(image=PNG, concepts=[types_pb2.ConceptRef(name="dog")])
    )
    assert [entry.concept.name for entry in named.explanations] == ["dog"]
    assert named.explanations[0].overlay_png == b""
    bad = await refused(concepts.ExplainImage(concepts_pb2.ExplainImageRequest(image=b"GIF89a")))
    assert (bad.code, bad.message) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "image: unsupported image",
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(tiny_bundle: Path, tmp_path_factory: Any) -> AsyncIterator[tuple[Running, Any]]:
    """A server over a directory with versions 1, 2 and a damaged 3, and its admin stub."""
    models = tmp_path_factory.mktemp("models") / "models"
    for version in ("1", "2", "3"):
        shutil.copytree(tiny_bundle, models / "tiny" / version)
        path = models / "tiny" / version / "manifest.json"
        manifest = Manifest.from_json(path.read_text())
        path.write_text(dataclasses.replace(manifest, version=version).to_json())
    (models / "tiny" / "CURRENT").write_text("2\n")
    graph = models / "tiny" / "3" / "image.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    tokens = write_tokens(models.parent / "tokens.json")
    async with serving(
        models / "tiny" / "1", models=str(models), tokens=str(tokens), admin_port=0
    ) as running:
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
