"""What is searched for: parts with weights, as one unit vector."""

from __future__ import annotations

import numpy as np
import pytest

from serving.index.query import QueryError, QueryTerm, make_query
from sparseclip import Client
from tests.serving.export.image_folders import BROKEN, png
from tests.support.tiny_model import CONCEPTS


def dense(client: Client, *parts: QueryTerm) -> np.ndarray:
    code = make_query(client, parts).vector
    assert (np.diff(code.indices.astype(int)) > 0).all()
    row = np.zeros(CONCEPTS)
    row[code.indices] = code.values
    assert np.linalg.norm(row) == pytest.approx(1)
    return row


def test_a_text_or_a_image_is_its_unit_code(client: Client) -> None:
    text, image = "a red circle", png(5)
    expected = client.embed([image], [text]).to_csr(normalize=True).toarray()
    np.testing.assert_allclose(dense(client, QueryTerm(image=image)), expected[0], atol=1e-6)
    np.testing.assert_allclose(dense(client, QueryTerm(text=text)), expected[1], atol=1e-6)
    assert make_query(client, [QueryTerm(text=text)]).model == "tiny/1"


def test_a_query_says_which_words_the_model_does_not_know(client: Client) -> None:
    query = make_query(client, [QueryTerm(image=png(5)), QueryTerm(text="a dog, a rocket")])
    assert query.texts["a dog, a rocket"].unknown_words == ("rocket",)


def test_concepts_are_named_by_id_and_by_name(client: Client) -> None:
    row = dense(client, QueryTerm(concept="red"), QueryTerm(concept=7, weight=0.5))
    assert np.flatnonzero(row).tolist() == [0, 7]
    assert row[0] / row[7] == pytest.approx(2)


def test_parts_add_up_at_their_weights(client: Client) -> None:
    dog, cat = (
        dense(client, QueryTerm(text="dog")),
        dense(client, QueryTerm(text="a cat under a tree")),
    )
    expected = dog - 0.5 * cat
    row = dense(client, QueryTerm(text="dog"), QueryTerm(text="a cat under a tree", weight=-0.5))
    np.testing.assert_allclose(row, expected / np.linalg.norm(expected), atol=1e-6)
    assert (row < 0).any()
    for scale in (1e39, 1e308, 1e-308):
        scaled = dense(
            client,
            QueryTerm(text="dog", weight=scale),
            QueryTerm(text="a cat under a tree", weight=-scale / 2),
        )
        np.testing.assert_allclose(scaled, row, atol=1e-6)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([QueryTerm(concept="no such")], "concept 'no such': "),
        ([QueryTerm(concept=CONCEPTS)], f"concept {CONCEPTS}: "),
        ([QueryTerm(text="x" * 100_000)], "text 'xxx"),
        ([QueryTerm(text="\u200b ")], "text '\\u200b ': text: must not be empty"),
        ([QueryTerm(image=BROKEN)], "image: "),
        ([QueryTerm(image="nowhere.png")], "image nowhere.png: "),
        ([QueryTerm(concept=3, weight=-1)], "query: nothing in it is looked for"),
        (
            [QueryTerm(concept=3), QueryTerm(concept=3, weight=-1)],
            "query: nothing in it is looked for",
        ),
    ],
)
def test_what_cannot_be_searched_for_is_named(
    client: Client, parts: list[QueryTerm], message: str
) -> None:
    with pytest.raises(QueryError) as caught:
        make_query(client, parts)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weight", [0.0, float("nan"), float("inf")])
def test_a_weight_is_a_number_other_than_0(weight: float) -> None:
    with pytest.raises(QueryError, match="text 'dog': its weight"):
        QueryTerm(text="dog", weight=weight)
