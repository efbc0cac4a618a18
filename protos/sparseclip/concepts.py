"""What the client gives back about concepts and about the server: frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sparseclip.results import FloatArray, ModelVersion, ScoredConcept, Timings


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A word, or an image by its source, that makes a concept fire."""

    source: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Concept:
    """A concept with the evidence for its name."""

    concept_id: int
    name: str
    aliases: tuple[str, ...]
    frequency: float
    """The share of evaluation images on which it fires, in [0, 1]."""
    clarity: float | None
    """Mean pairwise similarity of those images by an independent encoder; None: not measured."""
    modality: float
    """Near 0 a text concept, near 1 an image concept."""
    words: tuple[Evidence, ...]
    images: tuple[Evidence, ...]
    active: bool
    """False: it never fired on two evaluation images, so its name means little."""


@dataclass(frozen=True, kw_only=True)
class ConceptPage:
    """One page of a model's concepts."""

    concepts: tuple[Concept, ...]
    next_page_token: str
    """Empty on the last page."""
    total: int


@dataclass(frozen=True, kw_only=True)
class ConceptMatch:
    """A concept that a query found."""

    concept: Concept
    activation: float
    """The text tower's activation for the query; 0 when only the name matched."""
    name_match: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class ConceptExplanation:
    """Where one concept fires in an image."""

    concept: ScoredConcept
    values: FloatArray
    """(rows, columns) activations of the patches."""
    exact: bool
    """The concept's value is the mean of `values`, so the map accounts for all of it."""
    overlay_png: bytes
    """The map over the image; empty unless it was asked for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """Where the concepts of an image fire."""

    source: str
    model: ModelVersion
    explanations: tuple[ConceptExplanation, ...]
    timings: Timings


class ModelState(Enum):
    """Where a model of the server stands."""

    UNSPECIFIED = 0
    LOADING = 1
    SERVING = 2
    FAILED = 3


@dataclass(frozen=True, kw_only=True)
class ModelStatus:
    """One model of the server."""

    model: ModelVersion
    state: ModelState
    is_default: bool
    engine: str


@dataclass(frozen=True, kw_only=True)
class ServerStatus:
    """A server's models and its load."""

    models: tuple[ModelStatus, ...]
    queued_images: int
    queued_texts: int
    calls_in_flight: int
    uptime_seconds: int
    server_version: str
