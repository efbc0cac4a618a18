"""Vectors in the shapes of OpenAI, Cohere and others, whose clients are in tests/clients."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from bundle.manifest import Manifest
from bundle.verify import MANIFEST
from tests.serving.http.support import WebServer, data_uri, encoded, web
from tests.serving.support.running_server import PNG, embed_request, unharmed

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH, COHERE = "/v1/embeddings", "/v2/embed"
TEXTS = ("a red circle", "dog")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dense_web(dense_bundle: Path) -> AsyncIterator[WebServer]:
    async with web(dense_bundle) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def code_web(tiny_bundle: Path, tmp_path_factory: Any) -> AsyncIterator[WebServer]:
    """A server of a model whose dense vectors are not shared, as that of models trained here."""
    bundle = tmp_path_factory.mktemp("models") / "tiny" / "1"
    shutil.copytree(tiny_bundle, bundle)
    path = bundle / MANIFEST
    manifest = Manifest.from_json(path.read_text())
    architecture = dataclasses.replace(manifest.architecture, dense=None)
    path.write_text(dataclasses.replace(manifest, architecture=architecture).to_json())
    async with web(bundle) as opened:
        yield opened


async def expected(opened: WebServer, dense: bool) -> np.ndarray:
    """Unit vectors of TEXTS and PNG by gRPC: dense ones, or codes written out."""
    request = embed_request(PNG, texts=TEXTS)
    request.outputs.Clear()
    request.outputs.dense, request.outputs.sparse = dense, not dense
    reply = await opened.running.stub.Embed(request, timeout=30)
    image, *texts = reply.results
    rows = []
    for result in (*texts, image):
        if dense:
            row = np.array(result.dense)
            row = row / np.linalg.norm(row)
        else:
            row = np.zeros(256)
            row[list(result.sparse.indices)] = np.array(result.sparse.values) / result.sparse.norm
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("kind", ["code", "dense", "both"])
async def test_the_vectors_are_dense_where_they_are_shared(
    code_web: WebServer, dense_web: WebServer, shared_web: WebServer, kind: str
) -> None:
    opened = {"code": code_web, "dense": dense_web, "both": shared_web}[kind]
    vector = "code" if kind == "code" else "dense"
    rows = await expected(opened, vector == "dense")
    async with unharmed(opened.running) if kind == "both" else contextlib.nullcontext():
        reply = await opened.post(PATH, {"input": list(TEXTS)})
        one = await opened.post(PATH, {"input": TEXTS[0]})
    vectors = [entry["embedding"] for entry in reply["data"]]
    np.testing.assert_allclose(vectors, rows[:2], atol=1e-5)
    np.testing.assert_allclose(one["data"][0]["embedding"], rows[0], atol=1e-5)
    assert [entry["index"] for entry in reply["data"]] == [0, 1]
    assert reply["usage"]["prompt_tokens"] > 2
    assert reply["sparseclip"] == {"vector": vector}
    [listed, _] = (await opened.get("/v1/models"))["data"]
    assert listed["embedding"] == {"vector": vector, "dimensions": rows.shape[1]}


async def test_base64_is_what_openais_client_asks_for(code_web: WebServer) -> None:
    body = {"input": list(TEXTS), "encoding_format": "base64"}
    reply = await code_web.post(PATH, body)
    raw = base64.b64decode(reply["data"][1]["embedding"])
    vector = np.frombuffer(raw, dtype="<f4")
    np.testing.assert_allclose(vector, (await expected(code_web, False))[1], atol=1e-5)


IMAGE_BODIES = {
    "infinity's client": {
        "model": "default/not-specified",
        "input": [data_uri()],
        "dimensions": 0,
        "modality": "image",
    },
    "infinity": {"input": [data_uri()], "modality": "image", "encoding_format": "float"},
    "infinity, one": {"input": data_uri(), "modality": "image"},
    "jina": {"input": [{"image": data_uri()}]},
    "jina, bare": {"input": [{"image": encoded()}]},
    "vllm": {
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": data_uri()}}]}
        ]
    },
}


@pytest.mark.parametrize("path", [PATH, "/embeddings"])
@pytest.mark.parametrize("body", IMAGE_BODIES.values(), ids=IMAGE_BODIES)
async def test_pictures_in_the_shapes_of_others(code_web: WebServer, body: Any, path: str) -> None:
    reply = await code_web.post(path, {"model": "", **body})
    row = (await expected(code_web, False))[2]
    np.testing.assert_allclose(reply["data"][0]["embedding"], row, atol=1e-5)


async def test_infinitys_clients_ask_for_health_and_models(code_web: WebServer) -> None:
    assert (await code_web.get("/health"))["unix"] > 1e9
    [model] = (await code_web.get("/models"))["data"]
    assert (model["id"], model["owned_by"]) == ("tiny", "infinity")
    assert model["stats"] == {"results_pending": 0}


async def test_texts_and_pictures_together(code_web: WebServer) -> None:
    body = {"input": [{"text": TEXTS[0]}, {"text": TEXTS[1]}, {"image": data_uri()}]}
    reply = await code_web.post(PATH, body)
    vectors = [entry["embedding"] for entry in reply["data"]]
    np.testing.assert_allclose(vectors, await expected(code_web, False), atol=1e-5)


async def test_sparse_vectors_name_their_concepts(code_web: WebServer) -> None:
    body = {"input": list(TEXTS), "embedding_types": ["sparse"], "encoding_format": "base64"}
    reply = await code_web.post(PATH, body)
    request = embed_request(texts=TEXTS)
    request.outputs.dense = False
    answer = await code_web.running.stub.Embed(request, timeout=30)
    for entry, result in zip(reply["data"], answer.results, strict=True):
        assert [e["index"] for e in entry["embedding"]] == list(result.sparse.indices)
        assert [e["value"] for e in entry["embedding"]] == pytest.approx(list(result.sparse.values))
        names = {concept.concept_id: concept.name for concept in result.concepts}
        shown = {e["index"]: e["name"] for e in entry["embedding"]}
        assert names.items() <= shown.items()
        assert entry["sparseclip"]["active"] == result.active
    both = await code_web.post(PATH, {**body, "embedding_types": ["float", "sparse"]})
    assert both["data"][0]["sparse"] == reply["data"][0]["embedding"]
    assert len(both["data"][0]["embedding"]) == 256


async def test_what_was_not_read_is_said(code_web: WebServer) -> None:
    long = "dog " * 100
    reply = await code_web.post(PATH, {"input": long})
    assert reply["data"][0]["sparseclip"]["coverage"]["truncated"]
    problem = await code_web.post(PATH, {"input": ["dog", long], "truncate": False}, 400)
    assert problem["field"] == "input[1]"
    reply = await code_web.post(COHERE, {"texts": ["dog", long]})
    assert any(said.startswith("texts[1]: ") for said in reply["meta"]["warnings"])
    problem = await code_web.post(COHERE, {"texts": [long], "truncate": "NONE"}, 400)
    assert problem["field"] == "texts[0]"


async def test_coheres_vectors_are_those_of_a_code(code_web: WebServer) -> None:
    rows = await expected(code_web, False)
    picture = {"type": "image_url", "image_url": {"url": data_uri()}}
    contents = [{"type": "text", "text": TEXTS[0]}, picture]
    for body, numbers in (
        ({"texts": list(TEXTS)}, [0, 1]),
        ({"images": [data_uri()]}, [2]),
        ({"inputs": [{"content": [content]} for content in contents]}, [0, 2]),
    ):
        reply = await code_web.post(COHERE, {"model": "", **body})
        np.testing.assert_allclose(reply["embeddings"]["float"], rows[numbers], atol=1e-5)


BAD = [
    (PATH, {}, "input"),
    (PATH, {"input": []}, "input"),
    (PATH, {"input": ""}, "input"),
    (PATH, {"input": ["dog", ""]}, "input[1]"),
    (PATH, {"input": 5}, "input"),
    (PATH, {"input": [1, 2]}, "input"),
    (PATH, {"input": [[1, 2]]}, "input[0]"),
    (PATH, {"input": ["a", 1.5]}, "input[1]"),
    (PATH, {"input": ["a\ud800"]}, "input[0]"),
    (PATH, {"input": ["a"] * 257}, "input"),
    (PATH, {"input": "a", "dimensions": 3}, "dimensions"),
    (PATH, {"input": "a", "encoding_format": "int8"}, "encoding_format"),
    (PATH, {"input": "a", "embedding_types": ["int8"]}, "embedding_types[0]"),
    (PATH, {"input": "a", "embedding_types": []}, "embedding_types"),
    (PATH, {"input": "a", "modality": "audio"}, "modality"),
    (PATH, {"input": "a", "task": "retrieval"}, "task"),
    (PATH, {"input": "a", "normalized": False}, "normalized"),
    (PATH, {"input": ["no image"], "modality": "image"}, "input[0]"),
    (PATH, {"input": [data_uri(b"no image")], "modality": "image"}, "input[0]"),
    (PATH, {"input": [{"image": "http://a/b.png"}]}, "input[0].image"),
    (PATH, {"input": [{"image": "file:///etc/passwd"}]}, "input[0].image"),
    (PATH, {"input": [{"image": encoded(b"no image")}]}, "input[0].image"),
    (PATH, {"input": [{"text": "a", "image": encoded()}]}, "input[0]"),
    (PATH, {"input": [{"audio": "a"}]}, "input[0].audio"),
    (PATH, {"input": [{}]}, "input[0]"),
    (PATH, {"input": "a", "messages": [{"role": "user", "content": "a"}]}, "messages"),
    (PATH, {"messages": [{"role": "user", "content": "a"}] * 2}, "messages"),
    (PATH, {"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    (COHERE, {}, "texts"),
    (COHERE, {"texts": ["a"], "images": []}, "texts"),
    (COHERE, {"texts": []}, "texts"),
    (COHERE, {"texts": [""]}, "texts[0]"),
    (COHERE, {"texts": ["a"], "embedding_types": ["binary"]}, "embedding_types[0]"),
    (COHERE, {"texts": ["a"], "output_dimension": 64}, "output_dimension"),
    (COHERE, {"texts": ["a"], "truncate": "START"}, "truncate"),
    (COHERE, {"texts": ["a"], "max_tokens": 5}, "max_tokens"),
    (COHERE, {"texts": ["a"], "priority": 1}, "priority"),
    (COHERE, {"images": ["http://a"]}, "images[0]"),
    (COHERE, {"inputs": [{"content": []}]}, "inputs[0].content"),
    (COHERE, {"inputs": [{"content": [{"type": "text"}]}]}, "inputs[0].content[0].text"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "field"), BAD, ids=str)
async def test_an_error_names_the_field(
    code_web: WebServer, path: str, body: Any, field: str
) -> None:
    assert (await code_web.post(path, body, 400))["field"] == field


async def test_a_dense_model_has_no_sparse_vectors(dense_web: WebServer) -> None:
    body = {"input": "a", "embedding_types": ["sparse"]}
    assert (await dense_web.post(PATH, body, 422))["field"] == "embedding_types"
    body = {"texts": ["a"], "embedding_types": ["float", "sparse"]}
    assert (await dense_web.post(COHERE, body, 422))["field"] == "embedding_types"


async def test_the_right_dimensions_are_taken(dense_web: WebServer) -> None:
    reply = await dense_web.post(PATH, {"input": "a", "dimensions": 16})
    assert len(reply["data"][0]["embedding"]) == 16


async def test_a_code_too_wide_to_write_out_is_refused(
    code_web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.http.embedding_vectors._MAX_WIDTH", 100)
    await code_web.post(PATH, {"input": "a"}, 422)
    await code_web.post(PATH, {"input": "a", "embedding_types": ["sparse"]})
