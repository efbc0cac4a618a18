"""Zero-shot scores against the arithmetic done by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sparseclip import (
    AsyncClient,
    CallError,
    Classifier,
    Client,
    Coverage,
    Embedding,
    Embeddings,
    ItemStatus,
    ModelInfo,
)
from tests.sparseclip.scripted import WIDTH, Scripted, code_of
from tests.sparseclip.test_convert import INFO


def unit(content: bytes) -> np.ndarray:
    row = np.zeros(WIDTH)
    ids, values = code_of(content)
    row[ids] = values
    return row / np.linalg.norm(row)


def test_scores_are_the_softmax_of_scaled_cosines(client: Client) -> None:
    answers = client.classify([b"aab", b"poison", b"c"], ["abc", "b", "ccc"])
    for answer, content in [(answers[0], b"aab"), (answers[2], b"c")]:
        logits = [10.0 * unit(content) @ unit(label) for label in (b"abc", b"b", b"ccc")]
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(list(answer.scores.values()), expected, rtol=1e-6)
        assert list(answer.scores) == ["abc", "b", "ccc"]
        assert answer.label == list(answer.scores)[int(np.argmax(expected))]
    assert not answers[1].ok
    assert answers[1].label == ""


def test_templates_are_averaged_as_unit_codes(client: Client) -> None:
    [answer] = client.classify([b"aab"], ["a", "b"], templates=["{}", "xx{}x"])
    mean = [(unit(label) + unit(b"xx" + label + b"x")) / 2 for label in (b"a", b"b")]
    logits = [10.0 * unit(b"aab") @ (row / np.linalg.norm(row)) for row in mean]
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(list(answer.scores.values()), expected, rtol=1e-6)


def test_a_classifier_scores_a_stream(client: Client) -> None:
    classifier = client.classifier(["a", "b"])
    labels = [classifier.score(entry).label for entry in client.embed_stream([b"aa", b"bb"])]
    assert labels == ["a", "b"]


@pytest.mark.parametrize(
    ("labels", "templates", "message"),
    [
        ([], ["{}"], "at least one"),
        (["a", "a"], ["{}"], "'a' is given twice"),
        (["a"], [], "templates"),
        (["a"], ["photo"], "templates"),
        (["ok", "poison"], ["{}"], "label 'poison': image"),
    ],
)
def test_bad_labels_are_named(
    client: Client, labels: list[str], templates: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        client.classify([b"a"], labels, templates=templates)


def test_images_of_another_version_are_not_scored(client: Client, script: Scripted) -> None:
    classifier = client.classifier(["a", "b"])
    script.version = "2"
    with pytest.raises(ValueError, match="different models"):
        classifier.score(client.embed([b"a"])[0])


async def test_asyncio_classifies(address: str) -> None:
    async with AsyncClient(address) as client:
        [answer] = await client.classify([b"aab"], ["a", "b"])
        assert answer.label == "a"
        assert list(answer.label_coverage) == ["a", "b"]
        assert sum(answer.scores.values()) == pytest.approx(1.0)
        with pytest.raises(CallError, match="UNIMPLEMENTED"):
            await client.get_concept("cat")


def test_what_no_concept_answers_to_wins_nothing(client: Client) -> None:
    # The scripted model has no concept for an empty text.
    classifier = client.classifier(["", "a", "b"])
    assert classifier.silent_labels == ("",)
    image, stranger = client.embed([b"ab" * 2 + b"a", b"c"])
    answer = classifier.score(image)
    assert (answer.label, answer.scores[""], answer.undecided) == ("a", 0.0, "")
    assert sum(answer.scores.values()) == pytest.approx(1.0)
    apart = classifier.score(stranger)
    assert (apart.label, apart.scores) == ("", {})
    assert apart.undecided == "the image shares no concept with any label"
    blank = replace(image, indices=image.indices[:0], values=image.values[:0], active=0)
    assert classifier.score(blank).undecided == "no concept answers to the image"
    assert client.classifier([""]).score(image).undecided == "no concept answers to any label"


def test_labels_that_read_the_same_have_no_winner(client: Client) -> None:
    [answer] = client.classify([b"ab"], ["a", "b"])
    assert (answer.label, answer.undecided) == ("", "equally likely: a, b")
    assert answer.scores == {"a": 0.5, "b": 0.5}


def test_a_classifier_knows_what_was_read_of_its_labels() -> None:
    def prompt(text: str, coverage: Coverage) -> Embedding:
        return Embedding(source=text, status=ItemStatus(), model=INFO.model, coverage=coverage)

    texts = {
        "a": Coverage(tokens=3, unknown_words=("a",)),
        "a photo of a": Coverage(tokens=6, unknown_words=("photo", "a")),
        "b": Coverage(tokens=3),
        "a photo of b": Coverage(tokens=20, truncated=True, unknown_words=("photo",)),
    }
    prompts = Embeddings(items=tuple(prompt(*entry) for entry in texts.items()))
    classifier = Classifier.build(["a", "b"], ["{}", "a photo of {}"], prompts, INFO)
    assert classifier.coverage == {
        "a": Coverage(tokens=6, unknown_words=("a", "photo")),
        "b": Coverage(tokens=20, truncated=True, unknown_words=("photo",)),
    }


def dense_answers(vectors: np.ndarray, info: ModelInfo) -> Embeddings:
    """Vectors (B, D) as a dense model sends them."""
    return Embeddings(
        items=tuple(
            Embedding(
                source=str(i), status=ItemStatus(), model=info.model, dense=row.astype(np.float32)
            )
            for i, row in enumerate(vectors)
        )
    )


@pytest.mark.parametrize("score", ["softmax", "sigmoid"])
def test_dense_vectors_are_scored_as_the_model_says(score: Any) -> None:
    info = replace(INFO, kind="dense", concepts=0, score=score, logit_scale=12.0, logit_bias=-8.0)
    noise = np.random.default_rng(0)
    prompts, images = noise.normal(size=(6, 16)) * 5, noise.normal(size=(3, 16)) * 7
    labels, templates = ["a", "b", "c"], ["{}", "a {}"]
    classifier = Classifier.build(labels, templates, dense_answers(prompts, info), info)
    assert classifier.silent_labels == ()

    def unit_rows(rows: np.ndarray) -> np.ndarray:
        return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))

    means = unit_rows(unit_rows(prompts).reshape(3, 2, 16).mean(axis=1))
    logits = info.logit_scale * unit_rows(images) @ means.T - 8.0
    expected = 1 / (1 + np.exp(-logits))
    if score == "softmax":
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for image, row in zip(dense_answers(images, info), expected, strict=True):
        answer = classifier.score(image)
        assert answer.score == score
        np.testing.assert_allclose(list(answer.scores.values()), row, rtol=1e-5)
        assert (answer.label, answer.undecided) == (labels[int(row.argmax())], "")
        assert (sum(answer.scores.values()) == pytest.approx(1.0)) == (score == "softmax")


def test_large_logits_of_the_sigmoid_still_have_one_winner() -> None:
    info = replace(INFO, kind="dense", concepts=0, score="sigmoid", logit_scale=1000.0)
    labels = dense_answers(np.array([[1.0, 0.1], [1.0, 0.0], [-1.0, 0.0]]), info)
    classifier = Classifier.build(["a", "b", "c"], ["{}"], labels, info)
    [image] = dense_answers(np.array([[2.0, 0.0]]), info)
    answer = classifier.score(image)
    assert (answer.label, answer.scores["a"], answer.scores["b"]) == ("b", 1.0, 1.0)
    assert 0 <= answer.scores["c"] < 1e-300
    [same] = dense_answers(np.array([[0.0, 0.0]]), info)
    assert classifier.score(same).undecided == "equally likely: a, b, c"


def test_codes_are_scored_by_the_sigmoid_where_the_model_says_so(client: Client) -> None:
    info = replace(client.model_info(), score="sigmoid", logit_bias=-3.0)
    prompts = client.embed([], ["aab", "b", ""])
    classifier = Classifier.build(["aab", "b", ""], ["{}"], prompts, info)
    answer = classifier.score(client.embed([b"aab"])[0])
    logits = [info.logit_scale * unit(b"aab") @ unit(label) - 3.0 for label in (b"aab", b"b")]
    np.testing.assert_allclose(
        list(answer.scores.values()), [*(1 / (1 + np.exp(-np.array(logits)))), 0.0], rtol=1e-6
    )
    assert (answer.label, classifier.silent_labels) == ("aab", ("",))
