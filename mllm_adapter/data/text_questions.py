"""Questions and answers about phrases that stand for images, made from the phrases alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from mllm_adapter.data.instructions import (
    COLOUR_QUESTIONS,
    COUNT_QUESTIONS,
    IS_IT_QUESTIONS,
    MAX_DRAWS,
    NAME_QUESTIONS,
    NOTHING_SEEN,
    SENTENCE_QUESTIONS,
    THERE_QUESTIONS,
    QuestionAnswer,
    colour_of,
    drawn_turns,
    noun_phrase,
    sentence,
    split_words,
    with_article,
)

_COUNTS = ("none", "one", "two")
_FORM_WEIGHTS = (
    {"name": 0.4, "sentence": 0.2, "there": 0.2, "count": 0.2},
    {"name": 0.5, "sentence": 0.1, "there": 0.12, "count": 0.04, "is_it": 0.14, "colour": 0.1},
    {"name": 0.45, "sentence": 0.15, "there": 0.25, "count": 0.15},
)
"""For no phrase, for one, and for two."""

HARD_PROBABILITY = 0.5
"""When a question names a wrong thing: the probability that it is a similar one."""

Similar = Callable[[int, random.Random], Sequence[int]]
"""Some other phrases, by their rows, the most similar to a phrase first."""


class PhraseQuestions:
    """Makes conversations about pictures of no phrase, of one, and of two."""

    def __init__(self, phrases: Sequence[str], similar: Similar) -> None:
        self.phrases, self._similar = phrases, similar

    def conversation(self, shown: Sequence[int], rng: random.Random) -> list[QuestionAnswer]:
        """Draws a conversation about a picture of the phrases of some rows: one or more questions
        of different forms."""
        forms = dict(_FORM_WEIGHTS[len(shown)])
        if len(shown) == 1:
            phrase = self.phrases[shown[0]]
            if colour_of(phrase) is None:
                del forms["colour"]
            if not is_single(phrase):
                del forms["count"]
        elif not all(is_single(self.phrases[row]) for row in shown):
            forms.pop("count")
        return drawn_turns(forms, lambda form: self._turn(form, shown, rng), rng)

    def _turn(self, form: str, shown: Sequence[int], rng: random.Random) -> QuestionAnswer:
        phrases = [self.phrases[row] for row in shown]
        match form:
            case "name" | "sentence":
                questions = NAME_QUESTIONS if form == "name" else SENTENCE_QUESTIONS
                answer = NOTHING_SEEN
                if form == "sentence" and phrases:
                    answer = sentence(*phrases)
                elif phrases:
                    several = " and ".join(map(noun_phrase, phrases))
                    answer = several if len(phrases) > 1 else phrases[0]
                return QuestionAnswer(question=rng.choice(questions), answer=answer)
            case "count":
                return QuestionAnswer(
                    question=rng.choice(COUNT_QUESTIONS), answer=_COUNTS[len(phrases)]
                )
            case "colour":
                answer = colour_of(phrases[0]) or ""
                return QuestionAnswer(question=rng.choice(COLOUR_QUESTIONS), answer=answer)
            case "is_it" | "there":
                other = None
                if not phrases or rng.random() < 0.5:
                    other = self._other(shown, rng)
                true = other is None and bool(phrases)
                name = other or rng.choice(phrases or self.phrases)
                if form == "there":
                    question = rng.choice(THERE_QUESTIONS).format(noun_phrase(name))
                    return QuestionAnswer(question=question, answer="yes" if true else "no")
                asked = with_article(name) if rng.random() < 0.5 else name
                question = rng.choice(IS_IT_QUESTIONS).format(asked)
                return QuestionAnswer(
                    question=question, answer="yes" if true else f"no, it is {phrases[0]}"
                )
        raise ValueError(f"form: unknown form {form!r}")

    def _other(self, shown: Sequence[int], rng: random.Random) -> str | None:
        """A phrase that shares no word with those shown, with HARD_PROBABILITY a similar one. None
        where there is next to none."""
        words = {word for row in shown for word in split_words(self.phrases[row])}
        rows: Sequence[int] = [rng.randrange(len(self.phrases)) for _ in range(MAX_DRAWS)]
        if shown and rng.random() < HARD_PROBABILITY:
            rows = self._similar(rng.choice(shown), rng)
        for row in rows:
            if not words & set(split_words(self.phrases[row])):
                return self.phrases[row]
        return None


def is_single(phrase: str) -> bool:
    """Whether a phrase is one thing, as far as its words say: one lower-case word that looks like
    no plural and no number."""
    return phrase.isalpha() and phrase.islower() and noun_phrase(phrase) != phrase
