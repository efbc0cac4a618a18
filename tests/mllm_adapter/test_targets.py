"""What pictures become in training: never a held-out label, and always something that is true."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mllm_adapter.labels import Labels
from mllm_adapter.recipe import SteeringConfig
from mllm_adapter.targets import Target, Targets, with_article

CAPTIONS = ("red apple", "green apple", "red car", "dog", "old blue car", "mute")
META: list[dict[str, Any]] = [
    {"caption": caption, "captions": [caption, f"{caption}, thing"], "keywords": ["thing"]}
    for caption in CAPTIONS
]


def encode(texts: Sequence[str]) -> NDArray[np.float32]:
    """One concept a text, but none for those that have `mute`."""
    codes = np.zeros((len(texts), 8), dtype=np.float32)
    for row, text in enumerate(texts):
        if "mute" not in text:
            codes[row, len(text) % 8] = 1
    return codes


def draw(config: SteeringConfig, held_out: Sequence[str] = ()) -> list[tuple[str, Target]]:
    targets = Targets(META, config, Labels(encode, 8), held_out, seed=0)
    rng = random.Random(0)
    pictures = [rng.choice(META) for _ in range(1000)]
    return [(picture["caption"], targets.draw(picture, rng)) for picture in pictures]


def test_labels_alone_where_nothing_else_is_asked_for() -> None:
    drawn = draw(SteeringConfig(share=1.0))
    assert {target.about["caption"] for _, target in drawn} == set(CAPTIONS) - {"mute"}
    assert {target.new for _, target in drawn} >= {"a dog", "dog", "dog, thing"}
    assert all(target.old == caption and not target.part for caption, target in drawn)


def test_phrases_are_the_answers_and_no_label_that_is_held_out() -> None:
    whole = draw(SteeringConfig(share=1.0, phrases=1.0))
    answers = {target.about["caption"] for _, target in whole}
    assert {"apple", "car", "thing", "blue car", "dog apple"} <= answers
    for _, target in whole:
        phrase = target.about["caption"]
        assert target.new in (phrase, with_article(phrase))
        assert "mute" not in phrase
    less = draw(SteeringConfig(share=1.0, phrases=1.0), ["Dog Apple", "blue car"])
    rest = {target.about["caption"] for _, target in less}
    assert rest
    assert not rest & {"dog apple", "blue car"}


def test_a_part_becomes_another_word_and_the_rest_stays() -> None:
    drawn = draw(SteeringConfig(share=1.0, parts=1.0), ["green car"])
    made = [(caption, target) for caption, target in drawn if target.part]
    assert {caption for caption, _ in made} == {c for c in CAPTIONS if " " in c}
    answers = {target.about["caption"] for _, target in made}
    assert {"green apple", "red car"} <= answers
    assert answers - set(CAPTIONS), "only labels"
    assert "green car" not in answers
    for caption, target in made:
        words = caption.split()
        words[words.index(target.old)] = target.new
        assert target.about["caption"] == " ".join(words)


@pytest.mark.parametrize(("phrase", "said"), [("dog", "a dog"), ("Apple", "an Apple")])
def test_articles(phrase: str, said: str) -> None:
    assert with_article(phrase) == said
