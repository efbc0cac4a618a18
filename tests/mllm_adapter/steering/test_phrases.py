"""Words and phrases to edits of concepts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from mllm_adapter.steering.phrases import WordEdit, expand
from mllm_adapter.steering.plan import SteeringEdit, SteeringError

CODES = {
    "cat": [0.0, 3.0, 2.0, 1.0, 0.0, 0.0],
    "dog": [0.0, 0.0, 1.0, 2.0, 3.0, 0.0],
    "zzz": [0.0] * 6,
}


def encode(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.array([CODES[text] for text in texts], dtype=np.float32)


def test_a_word_is_its_strongest_concepts() -> None:
    edits = expand([WordEdit(word="cat", op="SET", value=2.5, top=2)], encode)
    assert [(e.concept, e.op) for e in edits] == [(1, "SET"), (2, "SET")]
    assert [e.value for e in edits] == pytest.approx([2.5, 2.5 * 2 / 3])
    even = expand([WordEdit(word="cat", op="SET", value=2.5, top=2, even=True)], encode)
    assert even == tuple(SteeringEdit(concept=c, op="SET", value=2.5) for c in (1, 2))
    scaled = expand([WordEdit(word="cat", op="SCALE", value=0.5, top=2)], encode)
    assert scaled == tuple(SteeringEdit(concept=c, op="SCALE", value=0.5) for c in (1, 2))
    every = expand([WordEdit(word="cat", op="ABLATE", patches=(1,))], encode)
    assert every == tuple(SteeringEdit(concept=c, op="ABLATE", patches=(1,)) for c in (1, 2, 3))


def test_what_two_words_share_is_set_not_suppressed() -> None:
    dog, cat = WordEdit(word="dog", op="SET"), WordEdit(word="cat", op="ABLATE")
    for order in ([dog, cat], [cat, dog]):
        ops = {edit.concept: edit.op for edit in expand(order, encode)}
        assert ops == {1: "ABLATE", 2: "SET", 3: "SET", 4: "SET"}


def test_a_concept_that_is_named_itself_is_edited_as_it_says() -> None:
    single = SteeringEdit(concept=2, op="SCALE", value=0.5)
    for order in (
        [single, WordEdit(word="cat", op="SET")],
        [WordEdit(word="cat", op="SET"), single],
    ):
        assert single in expand(order, encode)


def test_a_word_that_no_concept_knows() -> None:
    with pytest.raises(SteeringError, match="^'zzz': no concept answers to it"):
        expand([WordEdit(word="zzz", op="SET")], encode)
    assert expand([], encode) == ()
