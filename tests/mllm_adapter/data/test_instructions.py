"""Questions and answers: true ones, and none that an image's own words contradict."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from mllm_adapter.data.instructions import (
    CATEGORY_QUESTIONS,
    COLOUR_QUESTIONS,
    IS_IT_QUESTIONS,
    KEYWORD_QUESTIONS,
    NAME_QUESTIONS,
    RELATED_QUESTIONS,
    SENTENCE_QUESTIONS,
    THERE_QUESTIONS,
    Instructions,
)

META: list[dict[str, Any]] = [
    {
        "caption": "cat face",
        "captions": ["cat face", "cat", "cat face, pet"],
        "keywords": ["cat", "face", "pet"],
        "category": "animals-nature",
    },
    {
        "caption": "dog",
        "captions": ["dog"],
        "keywords": ["dog", "pet"],
        "category": "animals-nature",
    },
    {"caption": "pen draw", "captions": ["pen draw"], "keywords": [], "category": None},
    {"caption": "red pen", "captions": ["red pen"], "keywords": ["pen"], "category": None},
]


def asked(question: str, forms: tuple[str, ...]) -> str | None:
    """The thing that a question of some forms names, or None for a question of another form."""
    for form in forms:
        match = re.fullmatch(re.escape(form).replace(r"\{\}", "(.+)"), question)
        if match:
            return match.group(1) if match.groups() else ""
    return None


@pytest.mark.parametrize("image", range(4))
def test_answers_are_true(image: int) -> None:
    meta, instructions = META[image], Instructions(META)
    rng, answers = random.Random(0), set()
    for _ in range(600):
        for turn in instructions.conversation(meta, rng):
            answers.add(turn.answer)
            if asked(turn.question, NAME_QUESTIONS) is not None:
                assert turn.answer == meta["caption"]
            elif asked(turn.question, CATEGORY_QUESTIONS) is not None:
                assert turn.answer == meta["category"].replace("-", " ")
            elif (word := asked(turn.question, RELATED_QUESTIONS)) is not None:
                assert turn.answer == ("yes" if word in meta["keywords"] else "no")
            elif (name := asked(turn.question, IS_IT_QUESTIONS)) is not None:
                name = name.removeprefix("a ")
                true = name in meta["captions"]
                assert turn.answer == ("yes" if true else f"no, it is {meta['caption']}")
            elif asked(turn.question, COLOUR_QUESTIONS) is not None:
                assert (meta["caption"], turn.answer) == ("red pen", "red")
            elif asked(turn.question, SENTENCE_QUESTIONS) is not None:
                assert turn.answer == f"The picture shows a {meta['caption']}."
            elif (name := asked(turn.question, THERE_QUESTIONS)) is not None:
                true = name == f"a {meta['caption']}"
                assert turn.answer == ("yes" if true else "no")
            else:
                assert asked(turn.question, KEYWORD_QUESTIONS) is not None
                assert turn.answer == ", ".join(meta["keywords"])
    assert {"yes", "no", f"no, it is {meta['caption']}", meta["caption"]} <= answers
    assert ("red" in answers) == (meta["caption"] == "red pen")


def test_own_pairs_without_categories_and_with_one_caption_end() -> None:
    """Nothing else can be named, and no word is of another image."""
    meta = [{"caption": "a cat", "captions": ["a cat"], "keywords": ["cat"]}] * 3
    instructions, rng = Instructions(meta), random.Random(0)
    for _ in range(50):
        for turn in instructions.conversation(meta[0], rng):
            assert not turn.answer.startswith("no")
