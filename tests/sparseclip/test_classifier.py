"""Zero-shot scores against the arithmetic done by hand."""

from __future__ import annotations

from dataclasses import replace

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
