"""concepts.jsonl: the name of each of a model's C concepts, and the evidence for it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bundle.schema import SchemaError, from_dict
from bundle.text import folded


class ConceptsError(ValueError):
    """A concepts.jsonl that breaks its contract; the message names the line and the field."""


@dataclass(frozen=True, kw_only=True)
class ConceptEvidence:
    """A word or an image that makes a concept fire."""

    source: str
    """The word itself, or the source of the image."""
    value: float
    """The concept's activation on the image, or the score by which words after the name are ranked.
    A name's own score may be 0: it can rest on images alone."""


@dataclass(frozen=True, kw_only=True)
class NamedConcept:
    """One dimension of the codes: its name, and what is known of it."""

    id: int
    name: str
    """Unique in the vocabulary, one line."""
    aliases: tuple[str, ...] = ()
    """Other words that fit, best first."""
    frequency: float = 0.0
    """The share of the images that it was named on, training images, on which it fires."""
    clarity: float | None = None
    """Mean pairwise cosine of the held-out images on which it fires, by an independent encoder,
    without pairs of one and the same motif. None when it was not measured or there is no pair."""
    modality: float | None = None
    """The share of its activation that comes from images, in [0, 1]. None when nothing fires it."""
    active: bool = False
    """It fires on at least two of the images that it was named on."""
    words: tuple[ConceptEvidence, ...] = ()
    """The name without what tells it from equal ones, if it has one, then other words that make it
    fire, best first."""
    images: tuple[ConceptEvidence, ...] = ()
    """The images that make it fire, strongest first."""
    name_confidence: float | None = None
    """How far the name can be trusted, in [0, 1]: the share of names of the same score that are
    borne out by the caption or keywords of one of the concept's four strongest images, among images
    held back when the name was fitted. None when it was not measured."""
    hub: bool = False
    """It is among the strongest concepts of so many images which none of its words describes that
    it says little about any of them."""

    @property
    def is_named(self) -> bool:
        """Whether it has a name that can be trusted."""
        return self.name != unnamed(self.id)


def unnamed(concept_id: int) -> str:
    """What a concept is called that has no name."""
    return f"concept {concept_id} (unnamed)"


@dataclass(frozen=True)
class ConceptVocabulary:
    """All concepts of a model, in the order of their ids 0 to C - 1."""

    concepts: tuple[NamedConcept, ...]

    @classmethod
    def open(cls, path: Path) -> ConceptVocabulary:
        """Reads concepts.jsonl.

        Raises ConceptsError, naming the line, for a line that is no concept, an id out of order,
        and a name that is empty, unprintable or already taken.
        """
        concepts: list[NamedConcept] = []
        taken: set[str] = set()
        with path.open("rb") as file:
            for number, line in enumerate(file):
                at = f"{path.name}, line {number + 1}"
                try:
                    concept = from_dict(NamedConcept, json.loads(line), at="")
                except SchemaError as error:
                    raise ConceptsError(f"{at}: {error}") from None
                except (ValueError, RecursionError):
                    raise ConceptsError(f"{at}: not JSON") from None
                if concept.id != number:
                    raise ConceptsError(f"{at}: id: must be {number}")
                if not _is_name(concept.name) or concept.name in taken:
                    raise ConceptsError(f"{at}: name: empty, unprintable or taken")
                taken.add(concept.name)
                concepts.append(concept)
        return cls(tuple(concepts))

    @staticmethod
    def write(path: Path, concepts: Iterable[NamedConcept]) -> None:
        """Writes concepts in the order of their ids, and makes their names printable and unique.

        Where concepts share a name, the first one keeps it and the others become `name (2)`,
        `name (3)` and so on. Raises ConceptsError unless the ids are 0 to C - 1, and for a number
        that is not finite.
        """
        ordered = sorted(concepts, key=lambda c: c.id)
        if [c.id for c in ordered] != list(range(len(ordered))):
            raise ConceptsError("id: must be 0 to C - 1, each once")
        names = _unique([_printable(c.name) or f"concept {c.id}" for c in ordered])
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for concept, name in zip(ordered, names, strict=True):
                fields = dataclasses.asdict(dataclasses.replace(concept, name=name))
                try:
                    text = json.dumps(
                        fields, ensure_ascii=False, allow_nan=False, separators=(",", ":")
                    )
                    file.write(text + "\n")
                except ValueError:  # NaN or infinity, or a lone surrogate
                    raise ConceptsError(
                        f"concept {concept.id}: a number that is not finite, or broken text"
                    ) from None

    def __len__(self) -> int:
        return len(self.concepts)

    def __getitem__(self, concept_id: int) -> NamedConcept:
        """The concept of an id. Raises IndexError for an id outside of 0 to C - 1."""
        if concept_id < 0:
            raise IndexError("concept id: must not be negative")
        return self.concepts[concept_id]

    def by_name(self, name: str) -> NamedConcept | None:
        """The concept of exactly this name, or None."""
        concept_id = self._ids.get(name)
        return None if concept_id is None else self.concepts[concept_id]

    def search(self, query: str, limit: int) -> tuple[NamedConcept, ...]:
        """At most `limit` concepts whose name or an alias contains the query, best first.

        The best is a name that equals the query, then one that starts with it, then one with a
        word that starts with it, then one that contains it anywhere. Among these names come
        before aliases, active concepts before others, and frequent ones before rare ones.
        """
        folded_query = folded(query)
        if not folded_query or limit < 1:
            return ()
        ranked = []
        for concept, texts in zip(self.concepts, self._folded, strict=True):
            rank = min(
                2 * _rank(folded_query, text) + (i > 0)  # i is 0 for the name, then come aliases
                for i, text in enumerate(texts)
            )
            if rank < 2 * _NO_MATCH:
                ranked.append((rank, not concept.active, -concept.frequency, concept.id))
        return tuple(self.concepts[entry[-1]] for entry in sorted(ranked)[:limit])

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {c.name: c.id for c in self.concepts}

    @cached_property
    def _folded(self) -> list[list[str]]:
        return [[folded(text) for text in (c.name, *c.aliases)] for c in self.concepts]


_NO_MATCH = 4


def _rank(query: str, text: str) -> int:
    """How well a text matches: 0 best, 3 worst, _NO_MATCH not at all."""
    position = text.find(query)
    if position < 0:
        return _NO_MATCH
    if position == 0:
        return 0 if len(text) == len(query) else 1
    return 2 if f" {query}" in text or f"({query}" in text else 3


def _is_name(text: str) -> bool:
    return bool(text) and text == _printable(text)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()


def _unique(names: list[str]) -> list[str]:
    """The names with `(2)`, `(3)` and so on where a name came before, or would be another's."""
    given_names = set(names)
    used: set[str] = set()
    result = []
    for name in names:
        unique, n = name, 1
        while unique in used or (n > 1 and unique in given_names):
            n += 1
            unique = f"{name} ({n})"
        used.add(unique)
        result.append(unique)
    return result
