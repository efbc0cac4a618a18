"""Conversations about phrases in place of images: every answer is true."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import pytest

from mllm_adapter.data.instructions import (
    COLOUR_QUESTIONS,
    COUNT_QUESTIONS,
    IS_IT_QUESTIONS,
    NAME_QUESTIONS,
    NOTHING_SEEN,
    SENTENCE_QUESTIONS,
    THERE_QUESTIONS,
    colour_of,
    noun_phrase,
)
from mllm_adapter.data.text_questions import PhraseQuestions
from tests.mllm_adapter.data.test_instructions import asked

PHRASES = ["cat", "rocket", "black cat", "scissors", "green book", "two hearts"]


def similar(row: int, rng: random.Random) -> Sequence[int]:
    return [row, 2, 0, 1]


@pytest.mark.parametrize("shown", [[], [0], [2], [3], [0, 1], [1, 5]])
def test_answers_are_true(shown: list[int]) -> None:
    questions, rng, forms = PhraseQuestions(PHRASES, similar), random.Random(0), set()
    names = [PHRASES[row] for row in shown]
    for _ in range(400):
        turns = questions.conversation(shown, rng)
        assert len({turn.question for turn in turns}) == len(turns)
        for turn in turns:
            if turn.question in NAME_QUESTIONS:
                several = " and ".join(map(noun_phrase, names))
                wanted = {0: NOTHING_SEEN, 1: names[0] if names else "", 2: several}
                assert turn.answer == wanted[len(names)]
                forms.add("name")
            elif turn.question in SENTENCE_QUESTIONS:
                assert turn.answer.endswith(".")
                assert all(name in turn.answer for name in names)
                assert names or turn.answer == NOTHING_SEEN
                forms.add("sentence")
            elif turn.question in COUNT_QUESTIONS:
                assert turn.answer == ("none", "one", "two")[len(names)]
                assert not {"scissors", "two hearts"} & set(names)
                forms.add("count")
            elif turn.question in COLOUR_QUESTIONS:
                assert (names, turn.answer) == (["black cat"], "black")
                forms.add("colour")
            elif (thing := asked(turn.question, THERE_QUESTIONS)) is not None:
                assert turn.answer == ("yes" if thing in map(noun_phrase, names) else "no")
                forms.add(f"there {turn.answer}")
            else:
                thing = asked(turn.question, IS_IT_QUESTIONS)
                assert thing is not None
                true = re.sub(r"^an? ", "", thing) == names[0]
                assert turn.answer == ("yes" if true else f"no, it is {names[0]}")
                forms.add(f"is it {turn.answer[:3]}")
    single = {"is it yes", "is it no,"} if len(names) == 1 else set()
    there = {"there yes", "there no"} if names else {"there no"}
    assert {"name", "sentence"} | single | there <= forms
    assert ("colour" in forms) == (names == ["black cat"])
    assert ("count" in forms) == (names in ([], ["cat"], ["cat", "rocket"]))


def test_a_wrong_thing_shares_no_word_with_what_is_shown() -> None:
    rng = random.Random(0)
    questions = PhraseQuestions(["cat", "black cat"], lambda row, rng: [1, 0])
    for _ in range(100):
        for turn in questions.conversation([0], rng):
            assert not turn.answer.startswith("no")


@pytest.mark.parametrize(
    ("phrase", "colour", "noun"),
    [
        ("green book", "green", "a green book"),
        ("Orange Juice", "orange", "an Orange Juice"),
        ("orange", None, "an orange"),
        ("man with white hair", None, "a man with white hair"),
        ("black and white cat", None, "a black and white cat"),
        ("red-haired man", None, "red-haired man"),
        ("scissors", None, "scissors"),
        ("glass", None, "a glass"),
        ("two hearts", None, "two hearts"),
        ("flag: Sweden", None, "flag: Sweden"),
    ],
)
def test_colours_and_articles(phrase: str, colour: str | None, noun: str) -> None:
    assert colour_of(phrase) == colour
    assert noun_phrase(phrase) == noun
