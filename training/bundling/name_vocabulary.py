"""A user's words for the names of concepts, and what became of each of them."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from bundle.codes import ACTIVE_ABOVE
from bundle.concepts import NamedConcept
from bundle.text import TextError, clean_text
from training.data.data_recipe import DataError
from training.evaluation.encoder import CodeMatrix
from training.loading.sources.base import printable
from training.loading.word_list import read_lines

MAX_WORDS = 30_000
"""Words of a vocabulary. Naming holds a few numbers for each word and each concept."""

MAX_FILE_BYTES = 2**23

MAX_WORD_CHARACTERS = 100
"""A longer line is a description, and no name."""

TEXTS_PER_BATCH = 256

Outcome = Literal["name", "evidence", "nothing", "silent"]
"""What a word became: the name of a concept; evidence for a concept with another name; nothing,
though the text tower knows it; or nothing, as no concept answers to it in the text tower."""


class RefusedLine(NamedTuple):
    """A line of a vocabulary that is no word."""

    line: int
    """Its number, from 1."""
    text: str
    """Its beginning, printable."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class NameVocabulary:
    """Words, and phrases of several words, that may become names."""

    words: Sequence[str]
    """As a text tower reads them, each once, in the order of the file."""
    repeated: Sequence[str] = ()
    """Words of further lines that say the same as an earlier one."""
    refused: Sequence[RefusedLine] = ()

    @property
    def phrases(self) -> list[str]:
        """Those of two or more words."""
        return [word for word in self.words if " " in word]


@dataclass(frozen=True, kw_only=True)
class WordOutcome:
    """What became of one word."""

    word: str
    outcome: Outcome
    concepts: Sequence[int]
    """The concepts that it names, or else those that it is evidence for."""
    confidence: float | None = None
    """The highest one of the names that it gives; see NamedConcept.name_confidence."""


@dataclass(frozen=True, kw_only=True)
class VocabularyCoverage:
    """How much of a user's vocabulary a bundle's concepts have, and the other way round."""

    words: Sequence[WordOutcome]
    """In the order of the vocabulary."""
    concepts: int
    active: int
    """Concepts that fire on at least two of the images that they were named on."""
    named: int
    """Active concepts that have a name, from whatever source."""
    unnamed: Sequence[int]
    """Active concepts without a name."""
    vocabulary: NameVocabulary
    cut: Sequence[str] = ()
    """Words of which the text tower reads the beginning alone."""

    def of(self, outcome: Outcome) -> list[WordOutcome]:
        """The words of one outcome."""
        return [word for word in self.words if word.outcome == outcome]

    @property
    def concepts_named(self) -> int:
        """Concepts whose name is a word of the vocabulary."""
        return sum(len(word.concepts) for word in self.of("name"))

    def to_dict(self) -> dict[str, object]:
        """The report as plain data, for JSON."""
        return {
            "words": len(self.words),
            "phrases": len(self.vocabulary.phrases),
            "repeated_lines": list(self.vocabulary.repeated),
            "refused_lines": [line._asdict() for line in self.vocabulary.refused],
            "cut_words": list(self.cut),
            "concepts": self.concepts,
            "active_concepts": self.active,
            "named_concepts": self.named,
            "concepts_named_by_the_vocabulary": self.concepts_named,
            "unnamed_concepts": list(self.unnamed),
            "outcomes": [dataclasses.asdict(word) for word in self.words],
        }


def read_vocabulary(path: Path, field: str = "--vocabulary") -> NameVocabulary:
    """Reads a file of one word or phrase a line; blank lines do not count.

    Raises DataError, which names `field` and the file, for a file that is not there, empty, not
    UTF-8 or too large. A line that is no word costs itself.
    """
    at = f"{field}: {printable(path.name)}"
    words: dict[str, None] = {}
    repeated, refused = [], []
    for number, line in enumerate(read_lines(path, field, MAX_FILE_BYTES), 1):
        if not line.strip():
            continue
        try:
            word = _word(line)
        except TextError as error:
            refused.append(RefusedLine(number, printable(line.strip()[:40]), error.problem))
            continue
        if word in words:
            repeated.append(word)
        words[word] = None
    if not words:
        raise DataError(f"{at}: holds no words")
    if len(words) > MAX_WORDS:
        raise DataError(f"{at}: {len(words):,} words are over the limit of {MAX_WORDS:,}")
    return NameVocabulary(words=list(words), repeated=repeated, refused=refused)


def _word(line: str) -> str:
    """Raises TextError."""
    word = clean_text(line)
    if len(word) > MAX_WORD_CHARACTERS:
        raise TextError(f"more than {MAX_WORD_CHARACTERS} characters")
    if not word.isprintable():
        raise TextError("holds a character that cannot be shown")
    return word


def vocabulary_coverage(
    vocabulary: NameVocabulary,
    concepts: Iterable[NamedConcept],
    texts: Callable[[Sequence[str]], CodeMatrix],
    is_cut: Callable[[str], bool],
) -> VocabularyCoverage:
    """What became of each word, by the concepts that were named with it.

    `texts` gives the text tower's codes (B, C), and is asked only about words that became nothing.
    `is_cut` says whether a word is longer than the tower's context.
    """
    concepts = list(concepts)
    names: dict[str, list[NamedConcept]] = defaultdict(list)
    evidence: dict[str, list[int]] = defaultdict(list)
    for concept in concepts:
        # A name that several concepts have is made unique in a bundle; its evidence is not.
        sources = [word.source for word in concept.words]
        if sources and concept.is_named:
            names[sources.pop(0)].append(concept)
        for source in sources:
            evidence[source].append(concept.id)
    lost = [word for word in vocabulary.words if word not in names and word not in evidence]
    silent = _silent(lost, texts)
    outcomes = []
    for word in vocabulary.words:
        if word in names:
            known = [c.name_confidence for c in names[word] if c.name_confidence is not None]
            outcome = WordOutcome(
                word=word,
                outcome="name",
                concepts=[concept.id for concept in names[word]],
                confidence=max(known, default=None),
            )
        elif word in evidence:
            outcome = WordOutcome(word=word, outcome="evidence", concepts=evidence[word])
        else:
            fate: Outcome = "silent" if word in silent else "nothing"
            outcome = WordOutcome(word=word, outcome=fate, concepts=())
        outcomes.append(outcome)
    active = [concept for concept in concepts if concept.active]
    unnamed = [concept.id for concept in active if not concept.is_named]
    return VocabularyCoverage(
        words=outcomes,
        concepts=len(concepts),
        active=len(active),
        named=len(active) - len(unnamed),
        unnamed=unnamed,
        vocabulary=vocabulary,
        cut=[word for word in vocabulary.words if is_cut(word)],
    )


def _silent(words: Sequence[str], texts: Callable[[Sequence[str]], CodeMatrix]) -> set[str]:
    silent = set()
    for start in range(0, len(words), TEXTS_PER_BATCH):
        batch = words[start : start + TEXTS_PER_BATCH]
        fires = np.asarray(texts(batch) > ACTIVE_ABOVE)
        silent |= {batch[i] for i in np.flatnonzero(~fires.any(axis=1)).tolist()}
    return silent
