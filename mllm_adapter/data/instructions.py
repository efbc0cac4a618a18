"""Questions and answers about images, made from their captions, keywords and categories."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NAME_QUESTIONS = (
    "What is this?",
    "What does the picture show?",
    "What do you see?",
    "What is in the picture?",
    "Name this.",
    "Describe the picture.",
)
"""Questions for an image's name. The evaluations ask the first one."""
IS_IT_QUESTIONS = ("Is this {}?", "Does the picture show {}?", "Is it {}?")
KEYWORD_QUESTIONS = ("Which words go with it?", "Give keywords.", "What does it make you think of?")
RELATED_QUESTIONS = (
    "Does it have to do with {}?",
    "Is it about {}?",
    "Would you file it under {}?",
)
CATEGORY_QUESTIONS = ("What kind of thing is it?", "Which category is it in?")
_ALL_QUESTIONS = (
    *NAME_QUESTIONS,
    *IS_IT_QUESTIONS,
    *KEYWORD_QUESTIONS,
    *RELATED_QUESTIONS,
    *CATEGORY_QUESTIONS,
)

_FORM_WEIGHTS = {"name": 0.5, "is_it": 0.2, "keywords": 0.1, "related": 0.12, "category": 0.08}
FOLLOW_UP_PROBABILITY = 0.5
"""After each question, the probability that the conversation has another one."""
SAME_CATEGORY_PROBABILITY = 0.5
"""When a question names a wrong thing: the probability that it is of the image's category."""
MAX_DRAWS = 100
"""How often something that an image does not show is looked for."""
MAX_KEYWORDS = 4
"""The most keywords in an answer."""


@dataclass(frozen=True, kw_only=True)
class QuestionAnswer:
    """A question and its answer, which are one turn of a conversation."""

    question: str
    answer: str


class Instructions:
    """Makes conversations about the images of a split."""

    def __init__(self, meta: Sequence[Mapping[str, Any]]) -> None:
        self.meta = meta
        self._captions = sorted({m["caption"] for m in meta})
        self._keywords = sorted({k for m in meta for k in m["keywords"]})
        self._by_category: dict[str, list[str]] = {}
        for category, caption in sorted({(m.get("category") or "", m["caption"]) for m in meta}):
            self._by_category.setdefault(category, []).append(caption)

    def conversation(self, meta: Mapping[str, Any], rng: random.Random) -> list[QuestionAnswer]:
        """Draws a conversation about an image: one or more questions of different forms."""
        forms = dict(_FORM_WEIGHTS)
        if not meta["keywords"]:
            del forms["keywords"], forms["related"]
        if not meta.get("category"):  # a user's own pairs have none
            del forms["category"]
        turns: list[QuestionAnswer] = []
        while not turns or (forms and rng.random() < FOLLOW_UP_PROBABILITY):
            form = rng.choices(list(forms), list(forms.values()))[0]
            turns.append(self._turn(meta, form, rng))
            del forms[form]
        return turns

    def _turn(self, meta: Mapping[str, Any], form: str, rng: random.Random) -> QuestionAnswer:
        caption = meta["caption"]
        match form:
            case "name":
                return QuestionAnswer(question=rng.choice(NAME_QUESTIONS), answer=caption)
            case "keywords":
                answer = ", ".join(meta["keywords"][:MAX_KEYWORDS])
                return QuestionAnswer(question=rng.choice(KEYWORD_QUESTIONS), answer=answer)
            case "category":
                answer = meta["category"].replace("-", " ")
                return QuestionAnswer(question=rng.choice(CATEGORY_QUESTIONS), answer=answer)
            case "is_it":
                other = None if rng.random() < 0.5 else self._other(meta, rng)
                true = other is None
                name = rng.choice(meta["captions"]) if other is None else other
                name = caption if true and "," in name else name
                phrase = with_article(name) if rng.random() < 0.5 else name
                question = rng.choice(IS_IT_QUESTIONS).format(phrase)
                return QuestionAnswer(
                    question=question, answer="yes" if true else f"no, it is {caption}"
                )
            case "related":
                question = rng.choice(RELATED_QUESTIONS)
                if rng.random() < 0.5:
                    word = rng.choice(meta["keywords"])
                    return QuestionAnswer(question=question.format(word), answer="yes")
                image_words = _words(meta)
                for word in _draws(self._keywords, rng):
                    if not set(_split(word)) & image_words:
                        return QuestionAnswer(question=question.format(word), answer="no")
                word = rng.choice(meta["keywords"])
                return QuestionAnswer(question=question.format(word), answer="yes")
        raise ValueError(f"form: unknown form {form!r}")

    def _other(self, meta: Mapping[str, Any], rng: random.Random) -> str | None:
        """The caption of some other image, with SAME_CATEGORY_PROBABILITY of the same category.
        None where next to all images have the captions of this one."""
        same_category = rng.random() < SAME_CATEGORY_PROBABILITY
        candidates = self._by_category.get(meta.get("category") or "", []) if same_category else []
        others = [caption for caption in candidates if caption not in meta["captions"]]
        if others:
            return str(rng.choice(others))
        for caption in _draws(self._captions, rng):
            if caption not in meta["captions"]:
                return str(rng.choice([caption]))
        return None

    def texts(self) -> list[str]:
        """All words of questions and answers, for a tokenizer to learn from."""
        questions = [question.format("") for question in _ALL_QUESTIONS]
        categories = [m["category"].replace("-", " ") for m in self.meta if m.get("category")]
        captions = [c for m in self.meta for c in m["captions"]]
        return [*questions * 50, *categories, *captions, "yes", "no, it is"]


def with_article(phrase: str) -> str:
    """Puts the indefinite article before a phrase: `a dog`, `an apple`."""
    return f"{'an' if phrase[:1].casefold() in set('aeiou') else 'a'} {phrase}"


def _draws(values: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Random ones of some values, MAX_DRAWS at most."""
    return (rng.choice(values) for _ in range(MAX_DRAWS))


def _split(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _words(meta: Mapping[str, Any]) -> set[str]:
    return {word for text in (*meta["captions"], *meta["keywords"]) for word in _split(text)}
