"""Concepts: what they mean, and where they fire in an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from sparseclip.results import (
    Coverage,
    FloatArray,
    ModelVersion,
    ScoredCaption,
    ScoredConcept,
    Timings,
)

ConceptKey = int | str
"""A concept by its id or by its exact name."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A word, or an image by its source, that makes a concept fire."""

    source: str
    """The word itself, or the source of the image."""
    value: float
    """The concept's activation on the image; the score by which its words are ranked."""


@dataclass(frozen=True, kw_only=True)
class Concept:
    """A concept with the evidence for its name."""

    concept_id: int
    name: str
    aliases: tuple[str, ...]
    """Other words that fit, best first."""
    frequency: float
    """The share of the training images on which it fires, in [0, 1]."""
    clarity: float | None
    """Mean pairwise similarity of the held-out images on which it fires, by an independent encoder;
    None if unmeasured."""
    modality: float | None
    """The share of its activation that comes from images, in [0, 1]: near 0 for a text concept,
    near 1 for an image concept. None when nothing fires it."""
    words: tuple[Evidence, ...]
    """The words that make it fire, best first."""
    images: tuple[Evidence, ...]
    """The images that make it fire, strongest first."""
    active: bool
    """It fires on at least two training images. If it does not, its name means little."""
    name_confidence: float | None = None
    """How far the name can be trusted, in [0, 1]: the share of names of the same score that the
    captions or keywords of strong images bear out. None when it was not measured."""
    hub: bool = False
    """It fires on so many unrelated images that it says little about any of them."""


@dataclass(frozen=True, kw_only=True)
class ConceptPage:
    """One page of a model's concepts."""

    concepts: tuple[Concept, ...]
    next_page_token: str
    """What `list_concepts` takes for the next page; empty on the last page."""
    total: int
    """The number of concepts on all pages."""


@dataclass(frozen=True, kw_only=True)
class ConceptMatch:
    """A concept that fits a query."""

    concept: Concept
    activation: float
    """How strongly the text tower activates it for the query; 0 when only its name matched."""
    name_match: bool
    """The query is its name or one of its aliases, in any case of letters."""


@dataclass(frozen=True, kw_only=True)
class ConceptMatches(Sequence[ConceptMatch]):
    """The concepts that fit a query, best first. It is a sequence of ConceptMatch."""

    items: tuple[ConceptMatch, ...]
    coverage: Coverage
    """What the text tower read of the query."""

    @overload
    def __getitem__(self, index: int) -> ConceptMatch: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ConceptMatch]: ...
    def __getitem__(self, index: int | slice) -> ConceptMatch | Sequence[ConceptMatch]:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, kw_only=True, eq=False)
class ConceptExplanation:
    """Where one concept fires in an image."""

    concept: ScoredConcept
    values: FloatArray
    """(rows, columns) float32, the activation on every patch."""
    exact: bool
    """The concept's value is the mean of `values`, so that the map accounts for all of it."""
    overlay_png: bytes
    """The map drawn over the image, as a PNG file; empty unless it was asked for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """Where the concepts of an image fire."""

    source: str
    """The image's path, or `image[0]`."""
    model: ModelVersion
    explanations: tuple[ConceptExplanation, ...]
    timings: Timings
    coverage: Coverage = Coverage()
    """What the model read of the image."""
    captions: tuple[ScoredCaption, ...] = ()
    """The training captions nearest to the image, best first."""
