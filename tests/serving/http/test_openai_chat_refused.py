"""What OpenAI has and this server lacks is refused by name, unless it asks for nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.serving.http.completions import PATH, asks, image
from tests.serving.http.support import WebServer, data_uri, web

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chatty(chat_bundle: Path) -> AsyncIterator[WebServer]:
    async with web(chat_bundle) as opened:
        yield opened


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"functions": [{}]}, "functions"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"modalities": ["audio"]}, "modalities[0]"),
        ({"audio": {}}, "audio"),
        ({"prediction": {}}, "prediction"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"store": True}, "store"),
        ({"top_k": 5}, "top_k"),
        ({"anything": 1}, "anything"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 5_000}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"seed": 1.5}, "seed"),
        ({"stop": [""]}, "stop[0]"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"frequency_penalty": "a"}, "frequency_penalty"),
        ({"repetition_penalty": 9}, "repetition_penalty"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "a", "name": "b"}]}, "messages[0].name"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "messages[0].role"),
        ({"steering": {"edits": [{"op": "set"}]}}, "steering.edits[0].target"),
        ({"steering": {"edits": [{"op": "no", "phrase": "a"}]}}, "steering.edits[0].op"),
        ({"steering": {"edits": [{"op": "add", "phrase": "a"}]}}, "steering.edits[0].value"),
        ({"steering": {"edits": [], "strength": 2}}, "steering.strength"),
        ({"steering": {"edits": [{"op": "set", "concept": "no"}]}},
         "steering.edits[0].concept_name"),
        ({"steering": {"edits": [{"op": "set", "phrase": "a", "concept_id": 1}]}},
         "steering.edits[0].concept_id"),
        ({"steering": {"edits": [{"op": "set", "concept_id": 1, "patches": [9_999]}]}},
         "steering.edits[0].patches"),
        ({"steering": True}, "steering"),
    ],
    ids=str,
)  # fmt: skip
async def test_what_is_not_offered_is_refused_by_name(
    chatty: WebServer, more: dict[str, Any], field: str
) -> None:
    assert (await chatty.post(PATH, {**asks(), **more}, 400))["field"] == field


HARMLESS = {
    "n": 1, "logprobs": False, "top_logprobs": 0, "logit_bias": {}, "tools": [],
    "tool_choice": "auto", "functions": [], "function_call": "none", "parallel_tool_calls": False,
    "response_format": {"type": "text"}, "modalities": ["text"], "service_tier": "auto",
    "store": False, "verbosity": "medium", "user": "u", "metadata": {"a": "b"},
    "safety_identifier": "s", "prompt_cache_key": "k", "audio": None, "seed": -(2**63),
}  # fmt: skip


async def test_what_asks_for_nothing_is_taken(chatty: WebServer) -> None:
    plain = await chatty.post(PATH, asks())
    reply = await chatty.post(PATH, asks(**HARMLESS))
    assert reply["choices"] == plain["choices"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/cat.png",
        "https://example.org/cat.png",
        "file:///etc/passwd",
        "/etc/passwd",
        "data:image/png,abc",
        "data:text/html;base64,PGI+",
        "data:image/png;base64,§",
        "data:image/png;base64,a",
        "",
        "data:" + ";a" * 5_000 + ";base64,",
    ],
)
async def test_an_address_is_never_fetched(chatty: WebServer, url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    problem = await chatty.post(PATH, asks(part), 400)
    assert problem["field"] == "messages[0].content[1].image_url.url"


async def test_what_is_no_image_names_its_part(chatty: WebServer) -> None:
    part = {"type": "image_url", "image_url": {"url": data_uri(b"no image")}}
    problem = await chatty.post(PATH, asks(image(), part), 400)
    assert problem["field"].startswith("messages[0].content[2]")
