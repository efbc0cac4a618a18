"""What is searched for: texts, images and named concepts with weights, as one sparse vector."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.index.databases.base import Code
from sparseclip import (
    CallError,
    Client,
    ConceptKey,
    Coverage,
    Embedding,
    ImageInput,
    ModelInfo,
)


class QueryError(ValueError):
    """A query that nothing can answer; the message names what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class QueryTerm:
    """One part of a query: a text or phrase, an image, or a single concept."""

    text: str | None = None
    image: ImageInput | None = None
    concept: ConceptKey | None = None
    """An id or an exact name."""
    weight: float = 1.0
    """How much the term counts; below 0 for what rows should not hold."""

    def __post_init__(self) -> None:
        if sum(kind is not None for kind in (self.text, self.image, self.concept)) != 1:
            raise QueryError("text, image, concept: give one of them")
        if not math.isfinite(self.weight) or not self.weight:
            raise QueryError(f"{self}: its weight must be a number other than 0")

    def __str__(self) -> str:
        if self.concept is not None:
            return f"concept {self.concept!r}"
        if self.text is not None:
            return f"text {self.text!r}"
        return f"image {self.image}" if isinstance(self.image, str | Path) else "image"


@dataclass(frozen=True, kw_only=True)
class Query:
    """A query, and the model that embedded it."""

    code: Code
    """A vector of length 1."""
    model: str
    """Name and version."""
    texts: Mapping[str, Coverage]
    """What the model read of each text."""


def make_query(client: Client, terms: Sequence[QueryTerm]) -> Query:
    """The weighted sum of all terms' unit codes, as a unit vector.

    Raises QueryError naming the term, or CallError.
    """
    info = client.model_info()
    images = [term for term in terms if term.image is not None]
    texts = [term for term in terms if term.text is not None]
    total = np.zeros(info.concepts)
    embeddings = client.embed(
        [term.image for term in images if term.image is not None],
        [term.text for term in texts if term.text is not None],
    )
    for term, embedding in zip([*images, *texts], embeddings, strict=True):
        indices, values = _unit_code(term, embedding, info)
        total[indices] += term.weight * values
    for term in terms:
        if term.concept is not None:
            total[_concept_id(client, term)] += term.weight
    norm = float(np.linalg.norm(total))
    if not (total > 0).any():
        raise QueryError("query: nothing in it is looked for: add a text, an image or a concept")
    indices = np.flatnonzero(total).astype(np.uint32)
    read = zip((term.text for term in texts), embeddings[len(images) :], strict=True)
    code = Code(indices, (total[indices] / norm).astype(np.float32))
    return Query(
        code=code,
        model=f"{info.model.name}/{info.model.version}",
        texts={str(text): embedding.coverage for text, embedding in read},
    )


def _unit_code(
    term: QueryTerm, embedding: Embedding, info: ModelInfo
) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    if not embedding.ok:
        raise QueryError(f"{term}: {embedding.status.message}")
    if embedding.model != info.model:
        raise QueryError("query: the model was replaced while it was made; search again")
    if not len(embedding.indices):
        raise QueryError(f"{term}: no concept answers to it")
    return embedding.indices, embedding.values / max(embedding.norm, 1e-12)


def _concept_id(client: Client, term: QueryTerm) -> int:
    assert term.concept is not None
    try:
        return client.get_concept(term.concept).concept_id
    except CallError as error:
        raise QueryError(f"{term}: {error.message}") from None
