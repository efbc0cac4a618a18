"""Whether words are English: WordNet's lemmas, and the endings that its own reader takes off."""

from __future__ import annotations

import re
from collections.abc import Mapping

POS = ("noun", "verb", "adj", "adv")
FOLDER = "usr/share/wordnet/"
FILES = frozenset(f"{FOLDER}{name}" for pos in POS for name in (f"index.{pos}", f"{pos}.exc"))
"""The files of Debian's `wordnet-base` that this module reads."""

_FUNCTION_WORD = re.compile(
    "a|an|the|and|or|but|nor|of|with|without|in|on|at|by|to|from|for|into|onto|over|under|off|out|up|"
    "down|than|as|is|are|was|be|been|it|its|this|that|these|those|you|your|my|his|her|our|their|no|"
    "not|if|when|where|who|what|how|between|behind|beside|above|below|near|via|per|against"
)
"""WordNet holds nouns, verbs, adjectives and adverbs only."""

_ENDINGS = (
    *(("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh")),
    *(("men", "man"), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", "")),
    *(("ing", "e"), ("ing", ""), ("er", ""), ("er", "e"), ("est", ""), ("est", "e")),
)
"""The rules of detachment in WordNet's manual (`morphy`), of all parts of speech together."""

_COMPOUND_PART = 4
"""Fewest letters of each part of a compound such as `checkmark`; with three, Italian words split
into English ones."""

_WORD = re.compile(r"[^\W\d_]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


class EnglishWords:
    """The words that WordNet knows."""

    def __init__(self, words: frozenset[str]) -> None:
        self._words = words

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> EnglishWords:
        """Reads the files named in FILES: lemmas, and irregular forms such as `geese`."""
        # The lines of an index that begin with a space are its licence.
        lines = [line for name in FILES for line in files[name].decode().splitlines()]
        return cls(frozenset(line.split(" ", 1)[0] for line in lines if not line.startswith(" ")))

    def knows(self, word: str) -> bool:
        """Whether a lower-case word is English: as it is, inflected, or as a compound of two."""
        if _FUNCTION_WORD.fullmatch(word) or self._is_form(word):
            return True
        cuts = range(_COMPOUND_PART, len(word) - _COMPOUND_PART + 1)
        return any(word[:at] in self._words and self._is_form(word[at:]) for at in cuts)

    def _is_form(self, word: str) -> bool:
        return word in self._words or any(
            word.endswith(ending) and word[: -len(ending)] + instead in self._words
            for ending, instead in _ENDINGS
        )

    def knows_all(self, caption: str) -> bool:
        """Whether a caption consists of English words, without digits and single letters."""
        words = caption.lower().split()
        known = (w == "a" or (len(w) > 1 and w.isalpha() and self.knows(w)) for w in words)
        return bool(words) and all(known)

    def is_title(self, title: str) -> bool:
        """Whether more than half of a title's words are English.

        Words of one or two letters do not count: many are words of several languages. Two words
        that WordNet has as a phrase count as known (`Costa Rica`).
        """
        text = re.sub(r"['’]s?\b", "", _CAMEL.sub(" ", title))
        words = _WORD.findall(text.lower())
        known = [self.knows(word) for word in words]
        for i, pair in enumerate(zip(words, words[1:], strict=False)):
            if "_".join(pair) in self._words:
                known[i] = known[i + 1] = True
        counted = [k for word, k in zip(words, known, strict=True) if len(word) > 2]
        return 2 * sum(counted) > len(counted)
