"""Which words a text tower knows: those that are evidence for the name of one of its concepts.

docs/results.md has the measurements: held-out images are found by words that are evidence, and
hardly better than by chance by others, even by words that stand inside many training captions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bundle.concepts import NamedConcept

_FUNCTION_WORD = re.compile(
    "a|an|and|are|as|at|by|for|from|in|is|it|its|of|on|or|that|the|these|this|those|to|with"
)
"""English words that name nothing. They are no evidence for any concept, and are not judged."""

_WORD = re.compile(r"[^\W\d_]+")
"""A run of letters; digits and punctuation are not judged."""

_GENITIVE = re.compile(r"(?<=[^\W\d_])['\u2019]s(?![^\W\d_])")
"""The ending in "dog's": no word of its own."""


@dataclass(frozen=True)
class KnownWords:
    """The words and phrases that a text tower knows."""

    phrases: frozenset[str]
    """In lower case, their words with single spaces between them."""
    longest: int
    """How many words the longest of them has."""

    @classmethod
    def of(cls, concepts: Iterable[NamedConcept]) -> KnownWords:
        """Those of a model, from the evidence for its concepts' names. A model whose concepts have
        no evidence words has none, and then no word is judged."""
        words = {tuple(_words(e.source)) for concept in concepts for e in concept.words} - {()}
        return cls(frozenset(map(" ".join, words)), max(map(len, words), default=0))

    def unknown(self, text: str) -> tuple[str, ...]:
        """The distinct words of a cleaned text that the tower does not know, in order.

        A word is known if it is evidence itself or stands in a phrase of the text that is.
        """
        if not self.phrases:
            return ()
        found = list(_WORD.finditer(text.lower()))
        words = [word[0] for word in found]
        genitives = {ending.end() for ending in _GENITIVE.finditer(text.lower())}
        unknown: dict[str, None] = {}
        known_to = 0  # the words before this position are in a phrase that is known
        for i, word in enumerate(words):
            for end in range(min(len(words), i + self.longest), max(i, known_to), -1):
                if " ".join(words[i:end]) in self.phrases:
                    known_to = end
                    break
            is_judged = not is_function_word(word) and found[i].end() not in genitives
            if i >= known_to and is_judged:
                unknown[word] = None
        return tuple(unknown)


def is_function_word(word: str) -> bool:
    """Whether an English word in lower case names nothing."""
    return _FUNCTION_WORD.fullmatch(word) is not None


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
