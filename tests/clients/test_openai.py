"""OpenAI's client, unmodified, blocking and asyncio, with the answers of our own client."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from sparseclip import ChatEnd, ChatSampling, ChatStart, Client, Edit, Outputs, Steering
from tests.clients.client_program import BESIDE, run
from tests.serving.http.completions import asks
from tests.serving.support.certificates import ALICE, bearer, write_tokens
from tests.serving.support.running_server import PNG, assert_clean
from tests.serving.support.server_process import Process

TEXTS = ["a red circle", "dog"]
MODES = ("blocking", "aio")


@pytest.fixture(scope="module")
def chatty(chat_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    tokens = write_tokens(tmp_path_factory.mktemp("tokens") / "tokens.json")
    process = Process(chat_bundle, "--http-port", "0", "--tokens", str(tokens))
    try:
        yield process
    finally:
        process.close()


@pytest.fixture(scope="module")
def own(chatty: Process) -> Iterator[Client]:
    with Client(chatty.address, token=ALICE) as client:
        yield client


def ask(process: Process, *calls: dict[str, Any], mode: str = "blocking", key: str = ALICE) -> Any:
    """What the client is answered to calls."""
    given = {"address": process.http_address, "key": key, "calls": calls}
    return run("openai_calls.py", mode, given=given, python=BESIDE)


def vectors(**body: Any) -> dict[str, Any]:
    return {"of": "embeddings", "body": {"model": ""} | body}


def chat(steering: dict[str, Any] | None = None, **body: Any) -> dict[str, Any]:
    """A question about a picture, with what OpenAI's client has no argument for."""
    return {"of": "chat", "body": {**asks(**body), "extra_body": {"steering": steering}}}


def answered(own: Client, steering: Steering | None = None) -> tuple[ChatStart, str, ChatEnd]:
    """The same question by our own client."""
    sampling = ChatSampling(max_tokens=16)
    events = list(own.chat("What is this?", [PNG], steering=steering, sampling=sampling))
    start, end = events[0], events[-1]
    assert isinstance(start, ChatStart)
    assert isinstance(end, ChatEnd)
    return start, "".join(event.text for event in events), end


@pytest.mark.parametrize("mode", MODES)
def test_it_embeds_what_our_own_client_does(chatty: Process, own: Client, mode: str) -> None:
    rows = own.embed([], TEXTS, outputs=Outputs(dense=True)).to_dense()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    many, one, sparse = ask(
        chatty,
        vectors(input=TEXTS),
        vectors(input=TEXTS[1], encoding_format="float"),
        vectors(input=TEXTS, extra_body={"embedding_types": ["sparse"]}),
        mode=mode,
    )
    np.testing.assert_allclose([entry["embedding"] for entry in many["data"]], rows, atol=1e-5)
    np.testing.assert_allclose(one["data"][0]["embedding"], rows[1], atol=1e-5)
    assert [entry["index"] for entry in many["data"]] == [0, 1]
    assert many["usage"]["prompt_tokens"] > 2
    assert many["sparseclip"] == {"vector": "dense"}
    for entry, expected in zip(sparse["data"], own.embed([], TEXTS), strict=True):
        assert [e["index"] for e in entry["embedding"]] == expected.indices.tolist()
        values = [e["value"] for e in entry["embedding"]]
        np.testing.assert_allclose(values, expected.values, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_it_is_answered_what_our_own_client_is(chatty: Process, own: Client, mode: str) -> None:
    start, text, end = answered(own)
    [whole] = ask(chatty, chat(), mode=mode)
    [choice] = whole["choices"]
    assert choice["message"]["content"] == text
    assert choice["finish_reason"] == "length"
    assert whole["usage"]["prompt_tokens"] == end.usage.prompt_tokens
    assert whole["usage"]["completion_tokens"] == end.usage.completion_tokens
    assert whole["model"] == f"{start.model.name}@{start.model.version}"
    replayed = chat()
    again = [choice["message"], {"role": "user", "content": "Are you sure?"}]
    replayed["body"]["messages"] += again
    [second] = ask(chatty, replayed, mode=mode)
    assert second["usage"]["prompt_tokens"] > whole["usage"]["prompt_tokens"]


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_has_the_audit_first_and_the_usage_last(
    chatty: Process, own: Client, mode: str
) -> None:
    start, text, end = answered(own)
    with_usage = chat(stream=True, stream_options={"include_usage": True})
    chunks, fewer = ask(chatty, with_usage, chat(stream=True), mode=mode)
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    seen = [concept["concept_id"] for concept in chunks[0]["sparseclip"]["images"][0]["before"]]
    assert seen == [concept.concept_id for concept in start.images[0].before]
    for stream in (chunks, fewer):
        deltas = [chunk["choices"][0]["delta"] for chunk in stream if chunk["choices"]]
        pieces = [delta["content"] for delta in deltas if delta["content"]]
        assert "".join(pieces) == text
        assert len(pieces) > 1, "it came in one piece"
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert fewer[-1]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["usage"]["prompt_tokens"] == end.usage.prompt_tokens
    assert not any(chunk["usage"] for chunk in (*chunks[:-1], *fewer))


@pytest.mark.parametrize("mode", MODES)
def test_an_edit_does_what_that_of_our_own_client_does(
    chatty: Process, own: Client, mode: str
) -> None:
    plan = Steering(edits=[Edit(phrase="dog", op="SET", value=4.0)])
    start, text, _ = answered(own, plan)
    edits = [{"phrase": "dog", "op": "set", "value": 4.0}]
    plain, steered = ask(chatty, chat(), chat({"edits": edits}), mode=mode)
    assert steered["choices"][0]["message"]["content"] == text
    [image] = steered["sparseclip"]["start"]["images"]
    assert image["edited_total"] == start.images[0].edited_total > 0
    assert plain["sparseclip"]["start"]["images"][0]["edited_total"] == 0


@pytest.mark.parametrize("mode", MODES)
def test_it_raises_errors_of_its_own(chatty: Process, mode: str) -> None:
    address = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    content = [address, {"type": "text", "text": "What is this?"}]
    fetched = {"messages": [{"role": "user", "content": content}]}
    field, unknown, picture = ask(
        chatty,
        vectors(input=["dog", ""]),
        vectors(input="a", model="other"),
        {"of": "chat", "body": asks() | fetched},
        mode=mode,
    )
    assert (field["raised"], field["status"]) == ("BadRequestError", 400)
    assert field["param"] == "input[1]"
    assert (unknown["raised"], unknown["status"]) == ("NotFoundError", 404)
    assert (picture["raised"], picture["status"]) == ("BadRequestError", 400)
    assert picture["param"] == "messages[0].content[0].image_url.url"
    assert "never fetches" in picture["message"]
    [guessed] = ask(chatty, vectors(input="a"), mode=mode, key="guess")
    assert (guessed["raised"], guessed["status"]) == ("AuthenticationError", 401)
    for error in (field, unknown, picture, guessed):
        assert_clean(error["message"])


def test_it_lists_the_models(chatty: Process, own: Client) -> None:
    [listed] = ask(chatty, {"of": "models"})
    version = own.model_info().model.version
    assert [model["id"] for model in listed] == ["tiny", f"tiny@{version}"]


@pytest.mark.parametrize("mode", MODES)
def test_who_hangs_up_leaves_nothing_behind(chatty: Process, mode: str) -> None:
    call = {**chat(stream=True, max_tokens=100), "hang_up_after": 2}
    for chunks in ask(chatty, call, call, mode=mode):
        assert [chunk["object"] for chunk in chunks] == ["chat.completion.chunk"] * 2
    until = time.monotonic() + 10
    while "sparseclip_chats_in_flight 0.0" not in metrics(chatty):
        assert time.monotonic() < until, "the answer goes on"
        time.sleep(0.05)
    [after] = ask(chatty, chat(), mode=mode)
    assert after["choices"]


def metrics(process: Process) -> str:
    return httpx.get(f"{process.http_address}/metrics", headers=dict(bearer(ALICE))).text
