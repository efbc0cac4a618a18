"""Cohere's client, unmodified, blocking and asyncio, with the vectors of our own client."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from sparseclip import Client, Outputs
from tests.clients.client_program import BESIDE, run
from tests.serving.http.support import data_uri
from tests.serving.support.running_server import PNG, assert_clean
from tests.serving.support.server_process import Process

TEXTS = ["a red circle", "dog"]
MODES = ("blocking", "aio")


def ask(process: Process, mode: str, *calls: dict[str, Any]) -> Any:
    """What the client is answered to calls."""
    bodies = [{"model": "", **call} for call in calls]
    given = {"address": process.http_address, "key": "any", "calls": bodies}
    return run("cohere_calls.py", mode, given=given, python=BESIDE)


@pytest.mark.parametrize("mode", MODES)
def test_it_embeds_what_our_own_client_does(server: Process, mode: str) -> None:
    picture = {"type": "image_url", "image_url": {"url": data_uri()}}
    contents = [{"type": "text", "text": TEXTS[0]}, picture]
    texts, image, mixed, sparse = ask(
        server,
        mode,
        {"input_type": "search_query", "texts": TEXTS, "embedding_types": ["float", "base64"]},
        {"input_type": "image", "images": [data_uri()]},
        {"input_type": "search_document", "inputs": [{"content": [one]} for one in contents]},
        {"input_type": "search_query", "texts": TEXTS, "embedding_types": ["sparse"]},
    )
    with Client(server.address) as own:
        rows = own.embed([PNG], TEXTS, outputs=Outputs(dense=True)).to_dense()
        codes = list(own.embed([], TEXTS))
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(texts["embeddings"]["float"], rows[1:], atol=1e-5)
    raw = base64.b64decode(texts["embeddings"]["base64"][0])
    np.testing.assert_allclose(np.frombuffer(raw, "<f4"), rows[1], atol=1e-5)
    assert texts["texts"] == TEXTS
    np.testing.assert_allclose(image["embeddings"]["float"], rows[:1], atol=1e-5)
    np.testing.assert_allclose(mixed["embeddings"]["float"], rows[[1, 0]], atol=1e-5)
    for vector, expected in zip(sparse["embeddings"]["sparse"], codes, strict=True):
        assert [entry["index"] for entry in vector] == expected.indices.tolist()
        assert all(entry["name"] for entry in vector)


@pytest.mark.parametrize("mode", MODES)
def test_it_raises_errors_of_its_own(server: Process, mode: str) -> None:
    fetched, unknown = ask(
        server,
        mode,
        {"input_type": "image", "images": ["https://example.org/a.png"]},
        {"model": "other", "input_type": "search_query", "texts": ["a"]},
    )
    assert (fetched["raised"], fetched["status"]) == ("BadRequestError", 400)
    assert fetched["body"]["field"] == "images[0]"
    assert "never fetches" in fetched["body"]["message"]
    assert (unknown["raised"], unknown["status"]) == ("NotFoundError", 404)
    for error in (fetched, unknown):
        assert_clean(error["body"]["message"])
