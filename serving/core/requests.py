"""What callers ask for, typed: no protobuf beyond convert.py and the services."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.concepts import Concept, ConceptVocabulary
from serving.core.errors import ServingError, invalid
from serving.engines.outputs import OutputRow


@dataclass(frozen=True, kw_only=True)
class ModelSelector:
    """Names a loaded model; empty fields mean the default."""

    name: str = ""
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelId:
    """A model that answers."""

    name: str
    version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageItem:
    """An encoded image."""

    id: str
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class TextItem:
    """A text."""

    id: str
    text: str


EmbedItem = ImageItem | TextItem

ConceptRef = int | str
"""A concept by id or by its exact name."""


def concept_id(concepts: ConceptVocabulary, key: ConceptRef, field: str) -> int:
    """Resolves an id or an exact name. Raises ServingError naming the field."""
    if isinstance(key, int):
        if key >= len(concepts):
            raise invalid(field, f"no concept has an id over {len(concepts) - 1}")
        return key
    concept = concepts.by_name(key)
    if concept is None:
        raise invalid(field, "no concept has this name")
    return concept.id


@dataclass(frozen=True, kw_only=True)
class OutputSelection:
    """What to compute and send for every item."""

    sparse: bool = True
    top_concepts: int = 0
    dense: bool = False
    patch_concepts: tuple[ConceptRef, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EmbedCall:
    """A validated call of Embed."""

    selector: ModelSelector
    items: tuple[EmbedItem, ...]
    outputs: OutputSelection


@dataclass(frozen=True, kw_only=True, slots=True)
class StageTimes:
    """Seconds that an item spent in each stage."""

    decode_s: float = 0.0
    queue_s: float = 0.0
    inference_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddedItem:
    """One item's answer."""

    row: OutputRow
    times: StageTimes


ItemResult = EmbeddedItem | ServingError


def slowest(results: Iterable[ItemResult]) -> StageTimes:
    """In each stage the time of the item that took longest."""
    times = [result.times for result in results if isinstance(result, EmbeddedItem)]
    return StageTimes(
        decode_s=max((t.decode_s for t in times), default=0.0),
        queue_s=max((t.queue_s for t in times), default=0.0),
        inference_s=max((t.inference_s for t in times), default=0.0),
    )


@dataclass(frozen=True, kw_only=True)
class PageRequest:
    """A stretch of the vocabulary."""

    start: int
    """The first concept id."""
    size: int
    active: bool
    """Leave out concepts that are not active."""


@dataclass(frozen=True, kw_only=True)
class RankedConcept:
    """A concept that a search found."""

    concept: Concept
    activation: float
    """The text tower's; 0 when only the name matched."""
    name_match: bool


@dataclass(frozen=True, kw_only=True)
class ExplainCall:
    """A validated call of ExplainImage."""

    selector: ModelSelector
    image: bytes
    concepts: tuple[ConceptRef, ...]
    """Empty: the `top` strongest."""
    top: int
    overlay: bool


@dataclass(frozen=True, kw_only=True)
class ExplainedConcept:
    """One concept's map over an image."""

    concept_id: int
    value: float
    values: NDArray[np.float32]
    """(P,)."""
    overlay_png: bytes


@dataclass(frozen=True, kw_only=True)
class Explained:
    """The maps of an image."""

    maps: tuple[ExplainedConcept, ...]
    exact: bool
    """Each value is the mean of its map."""
    times: StageTimes
