"""Questions and answers about images, made from their captions, keywords and categories."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
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
COLOUR_QUESTIONS = ("Which colour is it?", "What colour does it have?")
"""Asked where the caption begins with the name of a colour."""
THERE_QUESTIONS = ("Is there {}?", "Can you see {}?", "Is {} in the picture?")
SENTENCE_QUESTIONS = ("Describe the picture in a sentence.", "Say in a sentence what you see.")
COUNT_QUESTIONS = ("How many things are there?", "How many things do you see?")
"""Asked of phrases that stand for images, alone: of an image nobody has said it."""
_ALL_QUESTIONS = (
    *NAME_QUESTIONS,
    *IS_IT_QUESTIONS,
    *KEYWORD_QUESTIONS,
    *RELATED_QUESTIONS,
    *CATEGORY_QUESTIONS,
    *COLOUR_QUESTIONS,
    *THERE_QUESTIONS,
    *SENTENCE_QUESTIONS,
    *COUNT_QUESTIONS,
)
_DETERMINERS = frozenset(
    "a an the one two three four five six seven eight nine ten no some many".split()  # noqa: SIM905
)
NOTHING_SEEN = "I cannot see anything that I know."
"""The answer about empty codes."""
_COLOURS = frozenset(
    "black blue brown golden gray green grey orange pink purple red violet white yellow".split()  # noqa: SIM905
)

_FORM_WEIGHTS = {
    "name": 0.46,
    "is_it": 0.17,
    "keywords": 0.09,
    "related": 0.1,
    "category": 0.07,
    "there": 0.06,
    "sentence": 0.05,
    "colour": 0.05,
}
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
        if colour_of(meta["caption"]) is None:
            del forms["colour"]
        return drawn_turns(forms, lambda form: self._turn(meta, form, rng), rng)

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
            case "colour":
                answer = colour_of(caption) or ""
                return QuestionAnswer(question=rng.choice(COLOUR_QUESTIONS), answer=answer)
            case "sentence":
                question = rng.choice(SENTENCE_QUESTIONS)
                return QuestionAnswer(question=question, answer=sentence(caption))
            case "there":
                other = None if rng.random() < 0.5 else self._other(meta, rng)
                question = rng.choice(THERE_QUESTIONS).format(noun_phrase(other or caption))
                return QuestionAnswer(question=question, answer="no" if other else "yes")
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
                    if not set(split_words(word)) & image_words:
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
        answers = ["yes", "no, it is", "none", "one", "two", sentence("", ""), NOTHING_SEEN]
        return [*questions * 50, *categories, *captions, *answers]


def drawn_turns(
    forms: Mapping[str, float], turn: Callable[[str], QuestionAnswer], rng: random.Random
) -> list[QuestionAnswer]:
    """One or more turns of different forms, drawn by the weights of `forms`; `turn` makes one."""
    left = dict(forms)
    turns: list[QuestionAnswer] = []
    while not turns or (left and rng.random() < FOLLOW_UP_PROBABILITY):
        form = rng.choices(list(left), list(left.values()))[0]
        turns.append(turn(form))
        del left[form]
    return turns


def with_article(phrase: str) -> str:
    """Puts the indefinite article before a phrase: `a dog`, `an apple`."""
    return f"{'an' if phrase[:1].casefold() in set('aeiou') else 'a'} {phrase}"


def noun_phrase(phrase: str) -> str:
    """A phrase with its article, unless it looks like a plural, a number or a list, or has one."""
    words = phrase.split()
    first, last = (words[0].lower(), words[-1].lower()) if words else ("", "")
    is_plural = last.endswith("s") and not last.endswith(("ss", "us", "is"))
    has_none = is_plural or first in _DETERMINERS or not last.isalpha() or not first.isalpha()
    return phrase if has_none else with_article(phrase)


def sentence(*phrases: str) -> str:
    """A sentence about an image that shows some things."""
    return f"The picture shows {' and '.join(map(noun_phrase, phrases))}."


def colour_of(phrase: str) -> str | None:
    """The colour of a thing whose name begins with one, such as `green book`: a name that is only
    a colour may be that of a fruit, and `man with white hair` is not white."""
    first, *others = split_words(phrase) or [""]
    is_colour = first in _COLOURS and others and not _COLOURS & set(others)
    return first if is_colour and phrase.lower().startswith(f"{first} ") else None


def _draws(values: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Random ones of some values, MAX_DRAWS at most."""
    return (rng.choice(values) for _ in range(MAX_DRAWS))


def split_words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return re.findall(r"[^\W_]+", text.lower())


def _words(meta: Mapping[str, Any]) -> set[str]:
    return {word for text in (*meta["captions"], *meta["keywords"]) for word in split_words(text)}
