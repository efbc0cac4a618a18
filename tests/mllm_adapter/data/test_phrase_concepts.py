"""The strongest concepts of phrases: the same rows in every part, and what cannot be learned."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from bundle.store import open_bundle
from mllm_adapter.data.code_tables import BackboneGraphs
from mllm_adapter.data.phrase_concepts import PhraseConcepts, phrase_problems

PHRASES = ["cat", "dog", "rocket", "red apple"]


@pytest.fixture(scope="module")
def graphs(tiny_bundle: Path) -> BackboneGraphs:
    return BackboneGraphs(open_bundle(tiny_bundle), threads=1)


def test_a_part_is_what_its_phrases_have_alone(graphs: BackboneGraphs) -> None:
    every = PhraseConcepts.of(PHRASES, graphs, 32)
    part = every.taken(["rocket", "cat"], 4)
    alone = PhraseConcepts.of(["rocket", "cat"], graphs, 4)
    assert part.phrases == ["rocket", "cat"]
    assert np.array_equal(part.indices, alone.indices)
    np.testing.assert_allclose(part.values, alone.values, atol=1e-6)


def test_full_width_codes_keep_the_strongest(graphs: BackboneGraphs) -> None:
    concepts = PhraseConcepts.of(PHRASES, graphs, 5)
    full = graphs.texts(PHRASES)
    weakest = -np.sort(-full, axis=1)[:, 4:5]
    expected = np.where(full >= weakest, full, 0) / full.max(axis=1, keepdims=True)
    np.testing.assert_allclose(concepts.dense([0, 1, 2, 3]), expected, atol=1e-6)


def test_a_similar_phrase_comes_first(graphs: BackboneGraphs) -> None:
    codes = PhraseConcepts.of(PHRASES, graphs, 32)
    order = codes.similar(2, random.Random(0))
    assert len(order) == 64
    assert order[0] == 2


def test_phrases_that_the_tower_cannot_tell_apart_are_problems(graphs: BackboneGraphs) -> None:
    phrases = ["cat", "CAT", "dog " * 40, "rocket"]
    codes = PhraseConcepts.of(phrases, graphs, 32)
    codes.values[3] = 0
    assert phrase_problems(phrases, codes, graphs) == {
        "CAT": "the code of another phrase",
        "dog " * 40: "longer than the text tower reads",
        "rocket": "no concept answers to it",
    }
