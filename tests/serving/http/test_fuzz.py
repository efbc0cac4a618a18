"""Requests that are nearly right: none is answered with 500, and nothing of the server leaks."""

from __future__ import annotations

import copy
import gc
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.serving.http.completions import asks, image
from tests.serving.http.support import WebServer, checked, data_uri, encoded, web
from tests.serving.support.running_server import eventually, resident, unharmed

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEED = 20261130
EDITS = {
    "edits": [{"phrase": "dog", "op": "set", "value": 2.0, "patches": [1, 2]}],
    "strength": 0.5,
}
VALID: list[tuple[str, Any]] = [
    ("/v1/embed", {"inputs": [{"image": encoded()}, {"text": "a"}], "outputs": {"dense": True}}),
    ("/v1/embed", {"inputs": [{"text": "a", "id": "x"}], "options": {"framing": 0}}),
    ("/v1/explain", {"image": encoded(), "concepts": [{"concept_id": 3}], "overlay": True}),
    ("/v1/concepts/search", {"query": "red", "limit": 3, "model": {"name": "", "version": ""}}),
    ("/v1/chat/completions", asks(max_tokens=2, steering=EDITS, stop=["a"], seed=1)),
    ("/v1/chat/completions", asks(image(steering=EDITS), max_tokens=2, stream=True)),
    ("/v1/embeddings", {"input": ["a", "b"], "dimensions": 16, "encoding_format": "base64"}),
    ("/v1/embeddings", {"input": [data_uri()], "modality": "image"}),
    ("/v1/embeddings", {"input": [{"image": encoded()}, {"text": "a"}]}),
    ("/v1/embeddings", {"messages": [{"role": "user", "content": [image()]}]}),
    ("/v2/embed", {"texts": ["a"], "embedding_types": ["float", "sparse"], "truncate": "END"}),
    ("/v2/embed", {"inputs": [{"content": [{"type": "text", "text": "a"}]}]}),
    ("/studio/api/gallery/search", {"terms": [{"concept": 3, "weight": 1.0}], "limit": 3}),
]
PATHS = [
    *dict.fromkeys(path for path, _ in VALID),
    *(
        "/",
        "/docs",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/v1/models",
        "/v1/models/x",
    ),
    *("/v1/concepts", "/v1/concepts/3", "/v1/concepts/x", "/studio/", "/studio/api/gallery", "/a"),
    *("/studio/api/concepts/1/pictures", "/studio/api/gallery/pictures/a.png"),
]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**31, 2**63, -(2**64), 10**400, 0.5, -0.0, 1e308, 1e39, 1e-320),
    *(
        "",
        "a",
        "\x00",
        "\ud800",
        "😀" * 10,
        "a" * 9_000,
        "../../etc/passwd",
        "http://127.0.0.1:1/a",
    ),
    *("data:image/png;base64,", "data:image/png;base64,AAAA", "data:,a", "NaN", "set", "__class__"),
    *([], [[]], [None], {}, {"a": 1}, {"": {}}, [1, "a", None], ["a"] * 300, list(range(70))),
]
HEADERS: list[tuple[str, str]] = [
    ("content-type", "text/plain"),
    ("content-type", "application/json; charset=utf-16"),
    ("sparseclip-timeout", "0"),
    ("sparseclip-timeout", "-1e400"),
    ("sparseclip-items", "image=99999999999999999999"),
    ("sparseclip-items", "\x7f"),
    ("authorization", "Bearer x"),
    ("authorization", "\u00e9"),
    ("host", "evil.example"),
    ("range", "bytes=0-1"),
    ("if-none-match", "*"),
    ("accept-encoding", "x" * 2_000),
    ("x-forwarded-for", "1.2.3.4"),
    ("expect", "100-continue"),
    ("upgrade", "websocket"),
]


class Fuzzer:
    """Changes right requests a little, by a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def request(self, address: str) -> httpx.Request:
        random = self._random
        path, body = copy.deepcopy(random.choice(VALID))
        for _ in range(random.choice((0, 1, 1, 2, 3))):
            body = self._change(body)
        raw = json.dumps(body).encode()
        if random.random() < 0.2:
            raw = self._damage(raw)
        method = "POST"
        if random.random() < 0.2:
            path = random.choice(PATHS)
            method = random.choice(("GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "BREW"))
        if random.random() < 0.1:
            path += random.choice(("/", "//", "%00", "/..%2f", "?a=1", "?model=x", "?page_size=-1"))
        headers = [("content-type", "application/json")]
        if random.random() < 0.2:
            name, value = random.choice(HEADERS)
            headers = [(key, v) for key, v in headers if key != name] + [(name, value)]
        url = httpx.URL(address).copy_with(raw_path=path.encode())
        encoded_headers = [(key.encode(), value.encode("latin-1")) for key, value in headers]
        return httpx.Request(method, url, content=raw, headers=encoded_headers)

    def _change(self, value: Any) -> Any:
        """The value with one place in it changed."""
        random = self._random
        if isinstance(value, dict) and value and random.random() < 0.9:
            key = random.choice(list(value))
            kind = random.random()
            if kind < 0.1:
                del value[key]
            elif kind < 0.2:
                value[random.choice(("a", "", "Input", "model", "steering"))] = self._value()
            else:
                value[key] = self._change(value[key])
            return value
        if isinstance(value, list) and value and random.random() < 0.8:
            i = random.randrange(len(value))
            if random.random() < 0.15:
                return value + value[: i + 1]
            value[i] = self._change(value[i])
            return value
        return self._value()

    def _value(self) -> Any:
        return copy.deepcopy(self._random.choice(VALUES))

    def _damage(self, raw: bytes) -> bytes:
        random = self._random
        i = random.randrange(len(raw) + 1)
        kind = random.randrange(4)
        if kind == 0:
            return raw[:i]
        if kind == 1:
            return raw[:i] + random.randbytes(random.randrange(1, 9)) + raw[i:]
        if kind == 2:
            return raw[:i] + raw[i + random.randrange(1, 9) :]
        return raw[:i] + b"[" * random.choice((1, 100, 5_000)) + raw[i:]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chatty(chat_bundle: Path) -> AsyncIterator[WebServer]:
    async with web(chat_bundle) as opened:
        yield opened


async def fuzz(opened: WebServer, requests: int) -> dict[int, int]:
    """How often each status was answered."""
    fuzzer, statuses, grown_from = Fuzzer(SEED), dict[int, int](), 0
    async with unharmed(opened.running):
        for number in range(requests):
            request = fuzzer.request(opened.address)
            reply = await opened.client.send(request)
            shown = f"{number}: {request.method} {request.url.path} {request.content[:500]!r}"
            assert reply.status_code < 500 or reply.status_code == 504, f"{shown} {reply.text}"
            if reply.status_code >= 400 and request.method != "HEAD":
                checked(reply)
            assert "Traceback" not in reply.text, shown
            assert "x-content-type-options" in reply.headers, shown
            statuses[reply.status_code] = statuses.get(reply.status_code, 0) + 1
            if number < requests // 3:
                grown_from = max(grown_from, resident())
        gc.collect()
        assert await eventually(lambda: resident() - grown_from < 32 * 2**20)
    assert statuses[200] > requests / 20
    assert statuses[400] > requests / 4
    return statuses


async def test_nearly_right_requests(chatty: WebServer) -> None:
    await fuzz(chatty, 600)


@pytest.mark.soak
async def test_many_nearly_right_requests(chatty: WebServer) -> None:
    print(await fuzz(chatty, 10_000))
