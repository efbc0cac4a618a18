"""What callers ask for, typed: protobuf ends in rpc/, and nothing below it sees a message."""

from __future__ import annotations

from dataclasses import dataclass

from bundle.concepts import ConceptVocabulary, NamedConcept
from bundle.manifest import Framing
from serving.core.errors import ErrorKind, ServingError
from serving.core.priority_queue import WorkPriority


@dataclass(frozen=True, kw_only=True)
class ModelSelector:
    """Names a loaded model; empty fields mean the default."""

    name: str = ""
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelId:
    """One version of one model."""

    name: str
    version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageItem:
    """An encoded image to embed."""

    id: str
    data: bytes
    framing: Framing | None = None
    """None is the model's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextItem:
    """A text to embed."""

    id: str
    text: str
    refuse_long: bool = False
    """A text longer than the model's context is an error instead of being cut."""


EmbedItem = ImageItem | TextItem

ConceptRef = int | str
"""A concept by its id or by its exact name."""


def find_concept(
    vocabulary: ConceptVocabulary,
    ref: ConceptRef,
    field: str,
    *,
    kind: ErrorKind = ErrorKind.INVALID,
) -> NamedConcept:
    """Looks up a concept by id or exact name. Raises ServingError, which names the field.

    The error is INVALID where a concept is an argument of the call, as in the patch maps of Embed.
    GetConcept asks for the concept itself and passes NOT_FOUND.
    """
    if isinstance(ref, int):
        if ref < len(vocabulary):
            return vocabulary[ref]
        problem = f"no concept has an id over {len(vocabulary) - 1}"
    else:
        concept = vocabulary.by_name(ref)
        if concept is not None:
            return concept
        problem = "no concept has this name"
    raise ServingError(kind, f"{field}: {problem}", field=field)


@dataclass(frozen=True, kw_only=True)
class OutputSelection:
    """What to compute and send for every item. Nothing selected means the code of a sparse model,
    and the vector of a dense one: see serving.models.abilities."""

    sparse: bool = False
    top_concepts: int = 0
    dense: bool = False
    patch_concepts: tuple[ConceptRef, ...] = ()
    captions: int = 0
    """How many of the nearest training captions to send for an image."""


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """How the inputs of a call are read."""

    framing: Framing | None = None
    """None is the model's own."""
    refuse_long_texts: bool = False
    priority: WorkPriority | None = None
    """None is interactive in a call, and bulk in a stream."""


@dataclass(frozen=True, kw_only=True)
class EmbedCall:
    """A validated call of Embed."""

    selector: ModelSelector
    items: tuple[EmbedItem, ...]
    outputs: OutputSelection
    options: InputOptions


@dataclass(frozen=True, kw_only=True)
class ListConceptsCall:
    """A validated call of ListConcepts: one page of the vocabulary."""

    start: int
    """The first concept id."""
    listing: str | None
    """What the page before was a page of; None for the first page."""
    size: int
    active_only: bool
    """Leave out concepts that are not active."""


@dataclass(frozen=True, kw_only=True)
class ExplainCall:
    """A validated call of ExplainImage."""

    selector: ModelSelector
    image: bytes
    concepts: tuple[ConceptRef, ...]
    """Empty: the `top` strongest concepts of the image."""
    top: int
    overlay: bool
    """Also render each map over the image."""
    framing: Framing | None = None
    """None is the model's own."""
    captions: int = 0
    """How many of the nearest training captions to send."""
