"""The client and the real server together: every operation, identity, the admin port."""

from __future__ import annotations

import hashlib
import io
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from serving.in_process import local_server
from sparseclip import (
    AdminClient,
    AsyncClient,
    CallError,
    Client,
    Health,
    Item,
    ModelState,
    Outputs,
)
from tests.serving.support.server_process import REFERENCE_FLAGS


@pytest.fixture(scope="module")
def address(tiny_bundle: Path) -> Iterator[str]:
    with local_server(tiny_bundle) as opened:
        yield opened


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as opened:
        yield opened


def noise(seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (40, 50, 3), dtype=np.uint8))


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    noise(seed).save(buffer, "PNG")
    return buffer.getvalue()


def test_more_items_than_a_call_holds(client: Client) -> None:
    info = client.model_info()
    assert info.limits.images_per_call == 32
    images: list[bytes | Image.Image] = [png(seed) for seed in range(40)]
    images[7] = b"poison"
    images[9] = noise(9)
    answers = client.embed(images, ["a red circle"] * 300)
    assert [number for number, answer in enumerate(answers) if not answer.ok] == [7]
    matrix = answers.to_csr()
    assert matrix.shape == (339, info.concepts)
    one_by_one = client.embed([png(20)])[0]
    np.testing.assert_array_equal(answers[20].indices, one_by_one.indices)
    np.testing.assert_allclose(answers[20].values, one_by_one.values, rtol=1e-4)
    unit = answers.to_csr(normalize=True)
    np.testing.assert_allclose((unit * unit).sum(axis=1), 1.0, rtol=1e-4)


def test_every_output(client: Client) -> None:
    info = client.model_info()
    outputs = Outputs(top_concepts=4, dense=True, patch_concepts=(0, "green"))
    [answer] = client.embed([png(1)], outputs=outputs)
    assert answer.dense is not None
    assert answer.dense.shape == (info.dense_dim,)
    assert [entry.concept_id for entry in answer.patches] == [0, 1]
    assert answer.patches[0].values.shape == (info.patch_rows, info.patch_columns)
    strongest = answer.indices[np.argsort(-answer.values)[:4]]
    assert [concept.concept_id for concept in answer.concepts] == strongest.tolist()
    assert answer.timings.inference_us > 0


def test_a_stream_gives_what_calls_give(client: Client) -> None:
    items = [Item(source=f"{seed}", image=png(seed)) for seed in range(100)]
    items[50] = Item(source="50", image=b"poison")
    items[60] = Item(source="60", text="a red circle")
    answers = list(client.embed_stream(iter(items), window=24, priority="interactive"))
    assert [answer.source for answer in answers] == [f"{seed}" for seed in range(100)]
    assert [answer.source for answer in answers if not answer.ok] == ["50"]
    called = client.embed([png(99)], ["a red circle"])
    np.testing.assert_array_equal(answers[99].indices, called[0].indices)
    np.testing.assert_array_equal(answers[60].indices, called[1].indices)


def test_classify(client: Client) -> None:
    [answer] = client.classify([png(3)], ["dog", "cat", "tree"])
    scale = client.model_info().logit_scale
    rows = client.embed([png(3)], ["dog", "cat", "tree"]).to_csr(normalize=True).toarray()
    odds = np.exp(scale * rows[1:] @ rows[0])
    np.testing.assert_allclose(list(answer.scores.values()), odds / odds.sum(), rtol=1e-3)


def test_concepts(client: Client) -> None:
    everything = list(client.concepts())
    assert [concept.concept_id for concept in everything] == list(range(256))
    active = list(client.concepts(active_only=True))
    assert active == [concept for concept in everything if concept.active]
    first = client.list_concepts(page_size=10)
    second = client.list_concepts(page_size=10, page_token=first.next_page_token)
    assert [*first.concepts, *second.concepts] == everything[:20]
    assert first.total == 256
    dog = client.get_concept("dog")
    assert (dog, dog.aliases) == (client.get_concept(5), ("dogs",))
    assert (everything[0].clarity, everything[1].clarity) == (None, 0.5)
    matches = client.search_concepts("dog", limit=3)
    assert len(matches) <= 3
    assert "dog" in [match.concept.name for match in matches if match.name_match]
    with pytest.raises(CallError, match="NOT_FOUND"):
        client.get_concept("no such concept")
    with pytest.raises(CallError, match="INVALID_ARGUMENT"):
        client.get_concept(2**40)


def test_explain(client: Client) -> None:
    found = client.explain(png(4), top_concepts=3, overlay=True)
    assert len(found.explanations) == 3
    for entry in found.explanations:
        assert entry.values.shape == (4, 4)
        assert entry.values.mean() == pytest.approx(entry.concept.value, rel=1e-3)
        with Image.open(io.BytesIO(entry.overlay_png)) as overlay:
            assert overlay.format == "PNG"
    [named] = client.explain(png(4), concepts=["green"]).explanations
    assert (named.concept.concept_id, named.overlay_png) == (1, b"")
    with pytest.raises(CallError, match="INVALID_ARGUMENT.*not fetched"):
        client.explain("https://example.org/cat.png")


async def test_asyncio(address: str) -> None:
    async with AsyncClient(address) as client:
        answers = await client.embed([png(1), b"poison"], ["dog"])
        assert [answer.ok for answer in answers] == [True, False, True]
        streamed = [a async for a in client.embed_stream([png(seed) for seed in range(70)])]
        assert [answer.ok for answer in streamed] == [True] * 70
        assert [c.concept_id async for c in client.concepts()] == list(range(256))
        assert (await client.get_concept("dog")).concept_id == 5
        assert (await client.search_concepts("dog"))[0].concept
        assert len((await client.explain(png(1), top_concepts=2)).explanations) == 2
        assert (await client.model_info()).concepts == 256
        [labelled] = await client.classify([png(1)], ["dog", "cat"])
        assert labelled.label in ("dog", "cat")


@dataclass(frozen=True)
class Ports:
    """A server in a process of its own."""

    public: str
    admin: str


@pytest.fixture
def guarded(tiny_bundle: Path, tmp_path: Path) -> Iterator[Ports]:
    """A server with tokens: `user` may embed, `boss` may also administer."""
    people = [("user", '["embed"]'), ("boss", '["embed", "admin"]')]
    (tmp_path / "tokens.toml").write_text(
        "".join(
            f'[[principals]]\nname = "{name}"\nroles = {roles}\n'
            f'sha256 = ["{hashlib.sha256(f"{name}-token".encode()).hexdigest()}"]\n'
            for name, roles in people
        )
    )
    numbers = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            numbers.append(free.getsockname()[1])
    process = subprocess.Popen(
        [
            sys.executable, "-m", "serving.cli.main", "serve", *REFERENCE_FLAGS,
            "--bundle", str(tiny_bundle), "--models", str(tiny_bundle.parent.parent),
            "--tokens", str(tmp_path / "tokens.toml"),
            "--port", str(numbers[0]), "--admin-port", str(numbers[1]),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        assert "serving on" in process.stderr.readline()
        yield Ports(f"localhost:{numbers[0]}", f"localhost:{numbers[1]}")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()


def code_of_embed(address: str, token: str | None) -> grpc.StatusCode:
    with Client(address, token=token) as client:
        try:
            return client.embed(texts=["dog"])[0].status.code
        except CallError as error:
            return error.code


def test_identity_health_and_administration(guarded: Ports) -> None:
    assert code_of_embed(guarded.public, "user-token") is grpc.StatusCode.OK
    assert code_of_embed(guarded.public, "guess") is grpc.StatusCode.UNAUTHENTICATED
    assert code_of_embed(guarded.public, None) is grpc.StatusCode.UNAUTHENTICATED
    with Client(guarded.public) as anyone:
        assert anyone.health() is Health.SERVING
        assert anyone.health("sparseclip.v1.EmbeddingService") is Health.SERVING
    with (
        AdminClient(guarded.admin, token="user-token") as user,
        pytest.raises(CallError, match="PERMISSION_DENIED"),
    ):
        user.status()
    with AdminClient(guarded.admin, token="boss-token") as boss:
        [entry] = boss.status().models
        assert (entry.model.name, entry.state, entry.is_default) == (
            "tiny",
            ModelState.SERVING,
            True,
        )
        loaded = boss.load_model("tiny", "1")
        assert loaded.model == entry.model
        with pytest.raises(CallError, match="NOT_FOUND"):
            boss.load_model("nobody")
