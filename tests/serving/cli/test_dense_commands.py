"""The commands on a dense model: vectors and scores, or one line that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bundle.manifest import NO_CONCEPTS
from serving.in_process import local_server
from sparseclip import Client
from tests.serving.cli.conftest import Run
from tests.support.tiny_dense import DENSE_DIM


@pytest.fixture(scope="module")
def dense_address(dense_bundle: Path) -> Iterator[str]:
    with local_server(dense_bundle) as opened:
        yield opened


def test_embed_shows_vectors(run: Run, images: Path, dense_address: str) -> None:
    ended = run("embed", images, "--text", "star " * 40, "--server", dense_address)
    assert ended.code == 1  # one image is broken
    head = ended.out.splitlines()[0].split()
    assert head == ["source", "width", "norm", "ms", "notes"]
    [text] = [line for line in ended.out.splitlines() if line.startswith("star")]
    assert f" {DENSE_DIM} " in text
    assert "text cut: 16 of " in text
    assert "concept" not in ended.out
    [row] = run("embed", "--text", "a dog", "--json", "--server", dense_address).rows
    assert set(row) == {"source", "model", "coverage", "norm", "timings", "dense"}
    with Client(dense_address) as client:
        [answer] = client.embed([], ["a dog"])
    assert answer.dense is not None
    np.testing.assert_allclose(row["dense"], answer.dense, atol=1e-6)
    assert row["norm"] == pytest.approx(float(np.linalg.norm(row["dense"])), rel=1e-6)


def test_classify_names_its_score(
    run: Run, images: Path, dense_address: str, sigmoid_bundle: Path
) -> None:
    given = ("classify", images / "a.png", "--labels", "red,dog,a blue square")
    [row] = run(*given, "--json", "--server", dense_address).rows
    assert row["score"] == "softmax"
    assert sum(row["scores"].values()) == pytest.approx(1)
    assert not any(label["silent"] for label in row["labels"].values())
    shown = run(*given, "--bundle", sigmoid_bundle)
    assert "score (sigmoid)" in shown.out.splitlines()[0]
    [own] = run(*given, "--json", "--bundle", sigmoid_bundle).rows
    assert (own["score"], own["label"]) == ("sigmoid", row["label"])
    assert sum(own["scores"].values()) != pytest.approx(1)


@pytest.mark.parametrize(
    "arguments",
    [
        ("embed", "--text", "a", "--top", "3"),
        ("embed", "--text", "a", "--patch", "3"),
        ("embed", "--text", "a", "--captions", "3"),
        ("concepts", "list"),
        ("concepts", "get", "3"),
        ("concepts", "search", "dog"),
        ("explain", "IMAGE"),
    ],
    ids=" ".join,
)
def test_what_is_about_concepts_says_what_to_do(
    run: Run, images: Path, dense_address: str, arguments: tuple[str, ...]
) -> None:
    given = [str(images / "a.png") if word == "IMAGE" else word for word in arguments]
    ended = run(*given, "--server", dense_address)
    assert ended.code == 1
    assert ended.out == ""
    assert ended.err.count("\n") == 1
    assert ended.err.endswith(f"{NO_CONCEPTS}\n")
