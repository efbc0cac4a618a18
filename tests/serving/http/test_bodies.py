"""What a body may not hold, wherever it stands in one, and what would be lost without a word."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import threading
from typing import Any

import pytest
from starlette.requests import Request
from starlette.routing import Route

from serving.http import data_uri as data_uris
from serving.http import native_routes
from tests.serving.http.completions import asks, image
from tests.serving.http.support import JSON, WebServer, checked, data_uri, encoded

pytestmark = pytest.mark.asyncio(loop_scope="module")

HALF = "\ud800"
EDIT = {"concept": 3, "op": "set", "value": 1.0}
BODIES: dict[str, Any] = {
    "/v1/embed": {"inputs": [{"text": "a", "id": "x"}], "model": {"name": ""}},
    "/v1/explain": {"image": encoded(), "concepts": [{"concept_name": "a"}]},
    "/v1/concepts/search": {"query": "a", "model": {"name": ""}},
    "/v1/chat/completions": asks(
        image(), model="", stop=["a"], steering={"edits": [EDIT]}, metadata={"a": "b"}
    ),
    "/v1/embeddings": {"input": ["a", {"text": "a"}], "model": "", "user": "a"},
    "/embeddings": {"messages": [{"role": "user", "content": "a"}]},
    "/v2/embed": {"texts": ["a"], "model": "", "embedding_types": ["float"]},
    "/studio/api/gallery/search": {"terms": [{"concept_id": 1, "weight": 1}], "limit": 3},
}
OF_PYTHON = re.compile(r"Body|ImageAddress|ContentPart|Options|instance|dictionar|True|False|None")


def variants(value: Any, other: Any) -> list[Any]:
    """`value` with each place in it replaced by `other`."""
    found = [other]
    if isinstance(value, dict):
        found += [{**value, key: one} for key in value for one in variants(value[key], other)]
    if isinstance(value, list):
        for i, entry in enumerate(value):
            found += [[*value[:i], one, *value[i + 1 :]] for one in variants(entry, other)]
    return found


@pytest.mark.parametrize("path", BODIES)
async def test_half_a_character_is_refused_wherever_it_stands(
    shared_web: WebServer, path: str
) -> None:
    texts = [body for body in variants(BODIES[path], HALF) if isinstance(body, dict)]
    names = [body for body in variants(BODIES[path], {HALF: 1}) if isinstance(body, dict)]
    assert texts
    assert names
    for body in (*texts, *names, {**BODIES[path], HALF: 1}):
        problem = await shared_web.post(path, body, 400)
        assert "Unicode text" in problem["detail"], body
        assert problem["field"]


async def test_a_whole_character_of_two_halves_is_one(shared_web: WebServer) -> None:
    raw = b'{"query": "\\ud83d\\ude00 red", "limit": 1}'
    reply = await shared_web.client.post("/v1/concepts/search", content=raw, headers=JSON)
    assert reply.status_code == 200


@pytest.mark.parametrize("other", [True, 1, 1.5, "a", [], [[]], {}, {"a": 1}], ids=repr)
@pytest.mark.parametrize("path", BODIES)
async def test_errors_about_types_are_in_the_words_of_json(
    shared_web: WebServer, path: str, other: Any
) -> None:
    for body in variants(BODIES[path], other):
        reply = await shared_web.client.post(path, content=json.dumps(body), headers=JSON)
        if reply.status_code != 200:
            assert not OF_PYTHON.search(checked(reply)["detail"]), reply.text


@pytest.mark.parametrize(
    ("edit", "other"),
    [
        ({"concept_id": 1, "concept": 2}, "concept_id"),
        ({"concept_name": "a", "concept": "b"}, "concept_name"),
    ],
)
async def test_an_edit_has_one_concept(
    shared_web: WebServer, edit: dict[str, Any], other: str
) -> None:
    steering = {"edits": [{**edit, "op": "set", "value": 1}]}
    problem = await shared_web.post("/v1/chat/completions", asks(image(), steering=steering), 400)
    assert problem["field"] == "steering.edits[0].concept"
    assert problem["detail"].endswith(f"cannot be combined with {other}")


TEXT = {"type": "text", "text": "a"}


@pytest.mark.parametrize("part", [{**TEXT, **image()}, {**image(), **TEXT}, {"type": "text"}])
async def test_a_part_holds_what_its_type_says_and_nothing_else(
    shared_web: WebServer, part: dict[str, Any]
) -> None:
    body = {"messages": [{"role": "user", "content": [part]}]}
    problem = await shared_web.post("/v1/embeddings", body, 400)
    assert problem["field"] == f"messages[0].content[0].{part['type']}"
    problem = await shared_web.post("/v2/embed", {"inputs": [{"content": [part]}]}, 400)
    assert problem["field"] == f"inputs[0].content[0].{part['type']}"


async def test_a_modality_beside_a_message_is_refused(shared_web: WebServer) -> None:
    body = {"messages": [{"role": "user", "content": "a"}], "modality": "image"}
    assert (await shared_web.post("/v1/embeddings", body, 400))["field"] == "modality"


@pytest.mark.parametrize("path", BODIES)
async def test_a_call_with_a_body_has_no_parameters_in_its_address(
    shared_web: WebServer, path: str
) -> None:
    problem = await shared_web.post(f"{path}?model=other", BODIES[path], 400)
    assert "parameters" in problem["detail"]


@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, identity"])
async def test_a_compressed_body_is_refused_unread(shared_web: WebServer, encoding: str) -> None:
    raw = gzip.compress(b"{" + b" " * 10**7)
    headers = {**JSON, "content-encoding": encoding}
    reply = await shared_web.client.post("/v1/embed", content=raw, headers=headers)
    assert reply.status_code == 415
    assert checked(reply)["detail"] == "the body must not be compressed"


async def test_a_large_body_is_read_beside_the_event_loop(
    shared_web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images in JSON take a while to read, and other calls must not wait for it."""
    threads: list[int] = []
    load = native_routes.load_json

    def recorded(raw: bytes) -> dict[str, Any]:
        threads.append(threading.get_ident())
        return load(raw)

    monkeypatch.setattr(native_routes, "load_json", recorded)
    for spaces in (0, 300_000):
        raw = json.dumps({"inputs": [{"text": "a"}]}) + " " * spaces
        reply = await shared_web.client.post("/v1/embed", content=raw, headers=JSON)
        assert reply.status_code == 200
    assert threads[0] == threading.get_ident() != threads[1]


async def test_large_images_are_decoded_beside_the_event_loop(
    shared_web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    decode = data_uris.decode_base64

    def recorded(text: Any, path: str) -> bytes:
        threads.append(threading.get_ident())
        return decode(text, path)

    monkeypatch.setattr(data_uris, "decode_base64", recorded)
    uri = data_uri(b"no image" * 50_000)
    question = asks({"type": "image_url", "image_url": {"url": uri}})
    await shared_web.post("/v1/embeddings", {"input": uri, "modality": "image"}, 400)
    await shared_web.post("/v2/embed", {"images": [uri]}, 400)
    reply = await shared_web.client.post("/v1/chat/completions", json=question)
    assert reply.status_code >= 400
    assert len(threads) == 3
    assert threading.get_ident() not in threads


async def test_what_nobody_expected_is_a_problem_and_no_text_of_a_library(
    shared_web: WebServer,
) -> None:
    async def broken(request: Request) -> None:
        raise RuntimeError("/home/somebody/secret.txt")

    guard: Any = shared_web.running.server.http_app
    routes: list[Any] = guard._app.router.routes
    routes.insert(0, Route("/broken", broken))
    try:
        replies = await asyncio.gather(*(shared_web.client.get("/broken") for _ in range(3)))
    finally:
        del routes[0]
    for reply in replies:
        assert reply.status_code == 500
        assert checked(reply)["detail"] == "internal error"
        assert reply.headers["x-content-type-options"] == "nosniff"
