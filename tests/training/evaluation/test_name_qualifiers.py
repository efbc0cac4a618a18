"""Concepts of one name get different words of their own evidence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bundle.concepts import ConceptVocabulary, NamedConcept
from training.evaluation.concept_naming import ImageCodes, name_concepts
from training.evaluation.firing import sparse_codes
from training.evaluation.name_qualifiers import ConceptName, told_apart

Shown = Sequence[tuple[int, float, str]]
"""Images as (concept, value, words)."""


def apart(shown: Shown, names: Sequence[ConceptName]) -> dict[int, str]:
    codes = np.zeros((len(shown), 8), dtype=np.float32)
    for row, (concept, value, _) in enumerate(shown):
        codes[row, concept] = value
    return told_apart(names, sparse_codes(codes), [set(words.split()) for *_, words in shown])


def cat(concept: int, score: float = 1.0) -> ConceptName:
    return ConceptName(concept, "cat", score)


CATS: Shown = [
    (1, 3, "cat animal"),
    (1, 2, "cat animal"),
    (4, 2, "cat animal face"),
    (4, 1, "cat animal sitting"),
    (6, 3, "cat animal sitting"),
    (6, 1, "cat animal face"),
]


def test_the_best_keeps_the_name_and_the_others_get_what_is_theirs() -> None:
    names = [cat(4, 0.5), cat(6, 0.4), cat(1, 0.9), ConceptName(0, "dog", 1.0)]
    assert apart(CATS, names) == {4: "face", 6: "sitting"}
    # Who keeps the name depends on the score, not on the place.
    names[:3] = [cat(4, 0.9), cat(6, 0.4), cat(1, 0.5)]
    assert apart(CATS, names) == {1: "2", 6: "sitting"}


def test_equal_evidence_is_told_apart_by_numbers_alone() -> None:
    shown = [(k, 1.0, "cat animal face") for k in (1, 4, 6)]
    assert apart(shown, [cat(1), cat(4), cat(6)]) == {4: "2", 6: "3"}
    # A word of one of them leaves one number fewer, and no gap.
    assert apart([*shown, (4, 1.0, "cat weary")], [cat(1), cat(4), cat(6)]) == {4: "weary", 6: "2"}


def test_a_strong_image_weighs_more() -> None:
    shown = [(1, 1.0, "cat"), (4, 3.0, "cat weary"), (4, 1.0, "cat happy"), (4, 1.0, "cat happy")]
    assert apart(shown, [cat(1), cat(4, 0.5)]) == {4: "weary"}


def test_a_word_of_few_of_its_images_is_no_qualifier() -> None:
    shown = [(1, 1.0, "cat"), (4, 1.0, "cat weary"), *[(4, 1.0, "cat")] * 3]
    assert apart(shown, [cat(1), cat(4, 0.5)]) == {4: "2"}
    assert apart([*shown, (4, 1.0, "cat weary")], [cat(1), cat(4, 0.5)]) == {4: "weary"}


@pytest.mark.parametrize("word", ["cats", "the", "x", "2nd", "a" * 25, "for", "cat"])
def test_what_is_no_qualifier(word: str) -> None:
    assert apart([(1, 1.0, "cat"), (4, 1.0, f"cat {word}")], [cat(1), cat(4)]) == {4: "2"}


def test_a_plural_of_another_form_is_no_qualifier() -> None:
    shown = [(1, 1.0, "berry"), (4, 1.0, "berry berries")]
    names = [ConceptName(k, "berry", 1.0) for k in (1, 4)]
    assert apart(shown, names) == {4: "2"}


@pytest.fixture(scope="module")
def concepts() -> list[NamedConcept]:
    """Concepts 1, 4 and 6 of CATS, named by both towers."""
    shown = [*CATS, (0, 3, "dog")]
    codes = np.zeros((len(shown), 8), dtype=np.float32)
    for row, (concept, value, _) in enumerate(shown):
        codes[row, concept] = value
    text = np.zeros((2, 8), dtype=np.float32)
    text[0, [1, 4, 6]] = 3, 2, 1
    text[1, 0] = 1
    words = [frozenset(words.split()) for *_, words in shown]
    images = ImageCodes(codes=codes, sources=["a"] * len(shown), tags=words, words=words)
    return name_concepts(["cat", "dog"], text, images)


def test_names_of_a_bundle_are_unique_and_found_by_their_word(
    concepts: list[NamedConcept], tmp_path: Path
) -> None:
    expected = {0: "dog", 1: "cat", 4: "cat (face)", 6: "cat (sitting)"}
    assert {c.id: c.name for c in concepts if c.is_named} == expected
    path = tmp_path / "concepts.jsonl"
    ConceptVocabulary.write(path, concepts)
    vocabulary = ConceptVocabulary.open(path)
    assert {c.id: c.name for c in vocabulary.concepts if c.is_named} == expected
    assert {c.id for c in vocabulary.search("cat", 9)} == {1, 4, 6}
    assert [c.id for c in vocabulary.search("sitting", 9)] == [6]
    found = vocabulary.by_name("cat (sitting)")
    assert found is not None
    assert (found.id, found.aliases, found.words[0].source) == (6, ("cat",), "cat")
    assert vocabulary[1].aliases == ()


def test_the_plain_name_is_that_of_the_concept_which_the_word_sets_most() -> None:
    """And not that of the concept whose images have the word most purely."""
    rows = [(0, "cat"), (0, "cat"), (0, "cat animal"), (1, "cat pouting"), (2, "dog"), (0, "dog")]
    codes = np.zeros((len(rows), 3), dtype=np.float32)
    for row, (concept, _) in enumerate(rows):
        codes[row, concept] = 1
    words = [frozenset(text.split()) for _, text in rows]
    text = np.array([[3, 0.1, 0], [0, 0, 1]], dtype=np.float32)
    images = ImageCodes(codes=codes, sources=["a"] * len(rows), tags=words, words=words)
    named = name_concepts(["cat", "dog"], text, images)
    assert [c.name for c in named] == ["cat", "cat (pouting)", "dog"]
