"""Questions and answers: true ones, and none that an image's own words contradict."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from mllm_adapter.data.easy_vqa import PACKAGE, easy_vqa
from mllm_adapter.data.instructions import (
    CATEGORY_QUESTIONS,
    IS_IT_QUESTIONS,
    NAME_QUESTIONS,
    RELATED_QUESTIONS,
    Instructions,
    QuestionAnswer,
)
from mllm_adapter.model.prompt import PromptBuilder
from mllm_adapter.trainer.conversations import IGNORED, collate, encode
from tests.mllm_adapter.llms import tiny_llm
from training.data import fetch

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
]


def asked(question: str, forms: tuple[str, ...]) -> str | None:
    """What a form's question asks about, or None."""
    for form in forms:
        match = re.fullmatch(re.escape(form).replace(r"\{\}", "(.+)"), question)
        if match:
            return match.group(1) if match.groups() else ""
    return None


@pytest.mark.parametrize("image", range(3))
def test_answers_are_true(image: int) -> None:
    meta, made = META[image], Instructions(META)
    rng, answers = random.Random(0), set()
    for _ in range(600):
        for turn in made.conversation(meta, rng):
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
            else:
                assert turn.answer == ", ".join(meta["keywords"])
    assert {"yes", f"no, it is {meta['caption']}", meta["caption"]} <= answers
    assert ("no" in answers) == bool(meta["keywords"])


def test_only_answers_and_their_ends_are_learned() -> None:
    tokenizer = tiny_llm()[1]
    build = PromptBuilder(tokenizer, visual_tokens=3, system="Look.")
    turns = [
        QuestionAnswer(question="What is this?", answer="a cat"),
        QuestionAnswer(question="Is it?", answer="yes"),
    ]
    row = encode(turns, build)
    learned = [label for label in row.labels if label != IGNORED]
    assert tokenizer.decode(learned) == "a cat<|im_end|>yes<|im_end|>"
    assert all(label in (IGNORED, token) for label, token in zip(row.labels, row.ids, strict=True))
    text = tokenizer.decode([*row.ids[: row.image_position], *row.ids[row.image_position + 3 :]])
    assert text.startswith("<|im_start|>system\nLook.<|im_end|>\n<|im_start|>user\n\nWhat is this?")
    assert text.count("<|im_start|>user") == 2
    batch = collate([row, encode(turns[:1], PromptBuilder(tokenizer, visual_tokens=3))])
    first = tokenizer.encode("a cat<|im_end|>", add_special_tokens=False)
    assert batch.learned == len(learned) + len(first)
    assert batch.mask.sum(1).tolist()[0] == len(row.ids)


@pytest.mark.skipif(
    fetch.cached(PACKAGE, fetch.default_cache()) is None, reason="a run with easy-vqa fetches it"
)
def test_easy_vqa_is_as_its_authors_count_it() -> None:
    for part, images, questions in (("train", 4000, 38575), ("test", 1000, 9673)):
        found = easy_vqa(part)  # type: ignore[arg-type]
        assert (len(found.images), len(found.questions)) == (images, questions)
    assert len({turn.answer for _, turn in found.questions}) == 13
