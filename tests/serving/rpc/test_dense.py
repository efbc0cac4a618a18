"""A dense model on a real server: vectors out, concepts refused with advice, also beside others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from bundle.manifest import NO_CONCEPTS
from bundle.onnx_graph import OnnxGraph
from bundle.store import open_bundle
from serving.engine_plans.open_engine import open_engine
from serving.in_process import local_server
from serving.server import running
from sparseclip import (
    AsyncAdminClient,
    AsyncClient,
    CallError,
    Client,
    Embedding,
    Embeddings,
    Item,
    Outputs,
)
from tests.serving.support.certificates import ROOT, write_tokens
from tests.serving.support.model_versions import copy_version
from tests.serving.support.running_server import PNG, config_for, encoded_image, eventually
from tests.support.tiny_dense import DENSE_DIM, LOGIT_BIAS, LOGIT_SCALE

IMAGES = [PNG, encoded_image(1), encoded_image(2, (32, 32))]
TEXTS = ["a red circle", "a dog", "a house by a tree"]


@pytest.fixture(scope="module")
def client(dense_bundle: Path) -> Iterator[Client]:
    with local_server(dense_bundle) as address, Client(address) as opened:
        yield opened


def test_it_describes_itself(client: Client, dense_bundle: Path) -> None:
    info = client.model_info()
    assert (info.kind, info.concepts, info.dense_dim, info.text_dense_dim) == ("dense", 0, 16, 16)
    assert (info.score, info.logit_bias) == ("softmax", 0.0)
    assert info.logit_scale == pytest.approx(LOGIT_SCALE)
    assert (info.patch_rows, info.patch_columns) == (0, 0)


def test_a_selection_of_nothing_sends_the_vector(client: Client, dense_bundle: Path) -> None:
    bundle = open_bundle(dense_bundle)
    graph = OnnxGraph(bundle.file("text.onnx"), "text", sparse=False)
    expected = graph.run(bundle.tokenizer.encode(TEXTS))["dense"]
    answers = client.embed(IMAGES, [*TEXTS, ""])
    assert [answer.ok for answer in answers] == [True] * 6 + [False]
    texts = np.stack([answer.dense for answer in answers.ok[3:]])  # type: ignore[arg-type]
    np.testing.assert_allclose(texts, expected, atol=1e-5)
    for answer in answers.ok:
        assert answer.dense is not None
        assert answer.norm == pytest.approx(float(np.linalg.norm(answer.dense)), rel=1e-6)
        assert (answer.width, answer.active, answer.coverage.unknown_words) == (0, 0, ())
    rows = answers.to_dense()
    assert rows.shape == (6, DENSE_DIM)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(answers.to_dense(normalize=False)[3:], texts)
    with pytest.raises(ValueError, match="the model is dense"):
        answers.to_csr()
    items = [Item(source=text, text=text) for text in TEXTS]
    for outputs in (None, Outputs(dense=True), Outputs(sparse=False, dense=True)):
        streamed = list(client.embed_stream(items, outputs=outputs))
        np.testing.assert_allclose(np.stack([e.dense for e in streamed]), expected, atol=1e-5)  # type: ignore[arg-type]


REFUSED: dict[str, Callable[[Client], Any]] = {
    "sparse": lambda client: client.embed(IMAGES, outputs=Outputs(sparse=True)),
    "top": lambda client: client.embed(IMAGES, outputs=Outputs(top_concepts=3)),
    "captions": lambda client: list(client.embed_stream(IMAGES, outputs=Outputs(captions=3))),
    "patches": lambda client: client.embed(IMAGES, outputs=Outputs(patch_concepts=(1,))),
    "list": lambda client: client.list_concepts(),
    "get": lambda client: client.get_concept(1),
    "search": lambda client: client.search_concepts("dog"),
    "explain": lambda client: client.explain(PNG),
    "chat": lambda client: list(client.chat("What is it?", [PNG])),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_what_is_about_concepts_says_what_to_do(
    call: Callable[[Client], Any], client: Client
) -> None:
    with pytest.raises(CallError) as caught:
        call(client)
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.message.endswith(NO_CONCEPTS)


def test_it_classifies(client: Client, sigmoid_bundle: Path) -> None:
    labels = ["red", "dog"]
    embeddings = client.embed(IMAGES, labels).to_dense()
    cosines = embeddings[:3] @ embeddings[3:].T
    logits = LOGIT_SCALE * cosines
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    answers = client.classify(IMAGES, labels)
    np.testing.assert_allclose([list(a.scores.values()) for a in answers], softmax, rtol=1e-4)
    with local_server(sigmoid_bundle) as address, Client(address) as other:
        info, answers = other.model_info(), other.classify(IMAGES, labels)
    assert (info.score, info.logit_bias) == ("sigmoid", pytest.approx(LOGIT_BIAS))
    own = 1 / (1 + np.exp(-logits - LOGIT_BIAS))
    np.testing.assert_allclose([list(a.scores.values()) for a in answers], own, rtol=1e-4)
    assert {a.score for a in answers} == {"sigmoid"}


@pytest.fixture
def models(dense_bundle: Path, tiny_bundle: Path, tmp_path: Path) -> Path:
    """A directory of one model, of which version 1 is dense and version 2 sparse."""
    copy_version(dense_bundle, tmp_path, "1", name="tiny")
    copy_version(tiny_bundle, tmp_path, "2")
    return tmp_path


@pytest.fixture
async def addresses(models: Path) -> AsyncIterator[tuple[str, str]]:
    """The public and the admin address of a server that has loaded the dense version."""
    config = config_for(
        models / "tiny" / "1",
        models=str(models),
        max_models=3,
        admin_port=0,
        tokens=str(write_tokens(models / "tokens.json")),
    )
    async with running(config, open_engine) as server:
        assert server.admin_address is not None
        yield server.address, server.admin_address


class Callers:
    """Callers of one client, who go on until told to stop; what they were answered, by version."""

    def __init__(self, client: AsyncClient) -> None:
        self._client, self._stop = client, asyncio.Event()
        self.seen: dict[str, list[Embedding]] = {"1": [], "2": []}
        self._tasks = [
            asyncio.create_task(c()) for c in (self._embed, self._stream, self._classify)
        ]

    async def stop(self) -> None:
        """Waits for the calls in flight. Raises what a caller met."""
        self._stop.set()
        await asyncio.gather(*self._tasks)

    def _keep(self, answer: Embedding) -> None:
        assert answer.ok, answer.status
        assert answer.model is not None
        self.seen[answer.model.version].append(answer)

    async def _embed(self) -> None:
        while not self._stop.is_set():
            self._keep((await self._client.embed([PNG]))[0])

    async def _stream(self) -> None:
        while not self._stop.is_set():
            async for answer in self._client.embed_stream([PNG] * 10):
                self._keep(answer)

    async def _classify(self) -> None:
        while not self._stop.is_set():
            assert (await self._client.classify([PNG], ["red", "dog"]))[0].scores


async def test_a_dense_model_becomes_sparse_and_dense_again_under_its_callers(
    addresses: tuple[str, str],
) -> None:
    address, admin_address = addresses
    async with (
        AsyncAdminClient(admin_address, token=ROOT) as admin,
        AsyncClient(address, token=ROOT) as client,
        AsyncClient(address, token=ROOT, model="tiny", version="1") as dense,
    ):

        async def ask_for_concepts(kind: str) -> None:
            if kind == "sparse":
                assert (await client.list_concepts(page_size=1)).total == 256
                return
            with pytest.raises(CallError) as caught:
                await client.list_concepts()
            assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
            assert caught.value.message == NO_CONCEPTS

        callers = Callers(client)
        await ask_for_concepts("dense")
        for version, kind in (("2", "sparse"), ("1", "dense"), ("2", "sparse")):
            # The first load goes through a trial in another process; then both are loaded.
            await admin.load_model("tiny", version, timeout=120)
            await ask_for_concepts(kind)
            before = len(callers.seen[version])
            assert await eventually(lambda n=before, v=version: len(callers.seen[v]) > n + 3)
            assert (await dense.embed(IMAGES)).to_dense().shape == (3, DENSE_DIM)
        await admin.unload_model("tiny", "1")
        with pytest.raises(CallError, match="NOT_FOUND"):
            await dense.embed(IMAGES)
        await callers.stop()
        for answer in callers.seen["1"]:
            assert (answer.width, len(answer.values)) == (0, 0)
            assert answer.dense is not None
        expected = (await client.embed([PNG])).to_csr().toarray()
        for answer in callers.seen["2"]:
            assert answer.width == 256
            code = Embeddings(items=(answer,)).to_csr().toarray()
            np.testing.assert_allclose(code, expected, atol=1e-6)
