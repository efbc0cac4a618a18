"""Zero-shot scores against the arithmetic done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sparseclip import AsyncClient, CallError, Client
from tests.sparseclip.scripted import WIDTH, Scripted, code_of


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
        assert sum(answer.scores.values()) == pytest.approx(1.0)
        with pytest.raises(CallError, match="UNIMPLEMENTED"):
            await client.get_concept("cat")
