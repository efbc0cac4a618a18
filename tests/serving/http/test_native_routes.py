"""The JSON of the wire contract: the same answers as over gRPC, and errors that name the field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from sparseclip.v1 import concepts_pb2, concepts_pb2_grpc, embedding_pb2
from tests.serving.http.support import JSON, WebServer, checked, encoded
from tests.serving.support.running_server import PNG, embed_request, survives, unharmed

pytestmark = pytest.mark.asyncio(loop_scope="module")


def stub(web: WebServer) -> Any:
    return concepts_pb2_grpc.ConceptServiceStub(web.running.channel)  # type: ignore[no-untyped-call]


async def test_embed_answers_as_over_grpc(shared_web: WebServer) -> None:
    body = {
        "inputs": [{"image": encoded()}, {"text": "a red circle"}],
        "outputs": {"sparse": True, "top_concepts": 5, "patch_concepts": [{"concept_id": 3}]},
    }
    reply = await shared_web.post("/v1/embed", body)
    request = embed_request(PNG, texts=("a red circle",))
    request.outputs.dense = False
    request.outputs.patch_concepts.add(concept_id=3)
    expected = await shared_web.running.stub.Embed(request, timeout=30)
    answer = ParseDict(reply, embedding_pb2.EmbedResponse())
    for ours, theirs in zip(answer.results, expected.results, strict=True):
        ours.ClearField("timings")
        theirs.ClearField("timings")
        assert ours == theirs


async def test_one_failed_item_has_its_own_status(shared_web: WebServer) -> None:
    reply = await shared_web.post(
        "/v1/embed", {"inputs": [{"image": encoded(b"no image")}, {"text": "a"}]}
    )
    first, second = reply["results"]
    assert first["status"]["code"] == 3
    assert "status" not in second
    assert second["active"] >= 0


async def test_explain_answers_as_over_grpc(shared_web: WebServer) -> None:
    reply = await shared_web.post(
        "/v1/explain", {"image": encoded(), "top_concepts": 2, "overlay": True}
    )
    request = concepts_pb2.ExplainImageRequest(image=PNG, top_concepts=2, overlay=True)
    expected = await stub(shared_web).ExplainImage(request, timeout=30)
    answer = ParseDict(reply, concepts_pb2.ExplainImageResponse())
    for message in (answer, expected):
        message.ClearField("timings")
    assert answer == expected
    assert answer.explanations[0].overlay_png.startswith(b"\x89PNG")


async def test_search_and_one_concept(shared_web: WebServer) -> None:
    reply = await shared_web.post("/v1/concepts/search", {"query": "red", "limit": 1})
    [match] = reply["matches"]
    found = match["concept"]
    one = await shared_web.get(f"/v1/concepts/{found['concept_id']}")
    assert one["concept"] == found
    assert one["model"] == reply["model"]


async def test_concepts_come_page_by_page(shared_web: WebServer) -> None:
    ids: list[int] = []
    token = ""
    while True:
        page = await shared_web.get(f"/v1/concepts?page_size=100&page_token={token}")
        ids += [concept["concept_id"] for concept in page["concepts"]]
        token = page["next_page_token"]
        if not token:
            break
    assert ids == list(range(256))


async def test_models_are_listed_as_openai_lists_them(shared_web: WebServer) -> None:
    reply = await shared_web.get("/v1/models")
    first, version = reply["data"]
    assert (reply["object"], first["object"]) == ("list", "model")
    assert version["id"] == f"{first['id']}@{version['sparseclip']['model']['version']}"
    assert first["sparseclip"]["concepts"] == 256
    assert await shared_web.get(f"/v1/models/{version['id']}") == version
    assert (await shared_web.get("/v1/models/other", 404))["field"] == "model"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/embed", {}, "inputs"),
        ("/v1/embed", {"inputz": []}, "inputz"),
        ("/v1/embed", {"inputs": {}}, "inputs"),
        ("/v1/embed", {"inputs": [1]}, "inputs[0]"),
        ("/v1/embed", {"inputs": [{"image": "$$"}]}, "inputs[0].image"),
        ("/v1/embed", {"inputs": [{"image": "", "text": "a"}]}, "inputs[0].text"),
        ("/v1/embed", {"inputs": [{"text": "\ud800"}]}, "inputs[0].text"),
        ("/v1/embed", {"inputs": [{"text": 3}]}, "inputs[0].text"),
        ("/v1/embed", {"outputs": {"sparse": 1}}, "outputs.sparse"),
        ("/v1/embed", {"outputs": {"top_concepts": -1}}, "outputs.top_concepts"),
        ("/v1/embed", {"outputs": {"top_concepts": True}}, "outputs.top_concepts"),
        ("/v1/embed", {"outputs": {"top_concepts": 1.5}}, "outputs.top_concepts"),
        ("/v1/embed", {"options": {"framing": "OTHER"}}, "options.framing"),
        ("/v1/embed", {"inputs": [{"text": "a"}], "options": {"framing": 9}}, "options.framing"),
        ("/v1/explain", {"image": encoded(b"no image")}, "image"),
        ("/v1/explain", {"image": encoded(), "concepts": [{"name": "no such"}]}, "concepts[0]"),
        ("/v1/concepts/search", {"query": "", "limit": 1}, "query"),
    ],
)
async def test_an_error_names_the_field(
    shared_web: WebServer, path: str, body: Any, field: str
) -> None:
    async with unharmed(shared_web.running):
        assert (await shared_web.post(path, body, 400))["field"] == field


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/v1/concepts/256", 404, "concept"),
        ("/v1/concepts/red", 400, "concept"),
        ("/v1/concepts/-1", 400, "concept"),
        ("/v1/concepts?page_size=5000", 400, "page_size"),
        ("/v1/concepts?page_size=x", 400, "page_size"),
        ("/v1/concepts?page_token=x", 400, "page_token"),
        ("/v1/concepts?active_only=1", 400, "active_only"),
        ("/v1/concepts?other=1", 400, "other"),
        ("/v1/concepts?page_size=1&page_size=2", 400, "page_size"),
        ("/v1/concepts?model=other", 404, "model"),
    ],
)
async def test_an_error_names_the_parameter(
    shared_web: WebServer, path: str, status: int, field: str
) -> None:
    assert (await shared_web.get(path, status))["field"] == field


async def test_many_small_values_are_refused_before_they_are_made(shared_web: WebServer) -> None:
    async def fault() -> None:
        for entries in (b"{}," * 1_000_000 + b"{}", b"[" * 2_000_000, b"1," * 3_000_000 + b"1"):
            raw = b'{"inputs": [' + entries + b"]}"
            reply = await shared_web.client.post("/v1/embed", content=raw, headers=JSON)
            assert reply.status_code == 400
            assert checked(reply)["detail"] == "the body has more than 100,000 values"

    await survives(shared_web.running, fault, repeats=6, first=4, growth=32)
    text = json.dumps({"inputs": [{"text": ',{[\\"' * 1_000}] * 30})
    reply = await shared_web.client.post("/v1/embed", content=text, headers=JSON)
    assert reply.status_code == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"a"',
        b"\xff",
        b'{"inputs": NaN}',
        b'{"inputs": [], "inputs": []}',
        b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
        b"[" * 100_000,
        b'{"inputs": ' + b"9" * 5_000 + b"}",
    ],
)
async def test_what_is_no_json_object_is_refused(shared_web: WebServer, raw: bytes) -> None:
    reply = await shared_web.client.post("/v1/embed", content=raw, headers=JSON)
    assert reply.status_code == 400
    checked(reply)
