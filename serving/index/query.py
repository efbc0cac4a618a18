"""What is searched for: texts, images and named concepts with weights, as one vector.

C concepts, D width of dense vectors.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bundle.manifest import NO_CONCEPTS
from serving.index.databases.base import Code, Vector
from sparseclip import (
    CallError,
    Client,
    ConceptKey,
    Coverage,
    Embedding,
    ImageInput,
    ModelInfo,
    Outputs,
)

NOTHING = "query: nothing in it is looked for: add a text, an image or a concept"


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

    vector: Vector
    """Of length 1."""
    model: str
    """Name and version."""
    texts: Mapping[str, Coverage]
    """What the model read of each text."""


def make_query(client: Client, terms: Sequence[QueryTerm], *, dense: bool = False) -> Query:
    """The weighted sum of all terms' unit codes, or unit dense vectors, as a unit vector.

    Raises QueryError naming the term, or CallError.
    """
    info = client.model_info()
    # Only their ratios count, and sums of the largest ones would overflow.
    largest = max((abs(term.weight) for term in terms), default=1.0)
    terms = [dataclasses.replace(term, weight=term.weight / largest) for term in terms]
    images = [term for term in terms if term.image is not None]
    texts = [term for term in terms if term.text is not None]
    embeddings = client.embed(
        [term.image for term in images if term.image is not None],
        [term.text for term in texts if term.text is not None],
        outputs=Outputs(sparse=False, dense=True) if dense else None,
    )
    for term, embedding in zip([*images, *texts], embeddings, strict=True):
        if not embedding.ok:
            raise QueryError(f"{term}: {embedding.status.message}")
        if embedding.model != info.model:
            raise QueryError("query: the model was replaced while it was made; search again")
    terms = [*images, *texts, *(term for term in terms if term.concept is not None)]
    total = _dense_sum(terms, embeddings) if dense else _code_sum(terms, embeddings, client, info)
    norm = np.linalg.norm(total)
    vector: Vector = (total / norm).astype(np.float32)
    if not dense:
        indices = np.flatnonzero(total).astype(np.uint32)
        vector = Code(indices, (total[indices] / norm).astype(np.float32))
    read = zip((term.text for term in texts), embeddings[len(images) :], strict=True)
    return Query(
        vector=vector,
        model=f"{info.model.name}/{info.model.version}",
        texts={str(text): embedding.coverage for text, embedding in read},
    )


def _code_sum(
    terms: Sequence[QueryTerm], embeddings: Sequence[Embedding], client: Client, info: ModelInfo
) -> NDArray[np.float64]:
    """The weighted sum of codes, (C,). The terms that were embedded come first."""
    total = np.zeros(info.concepts)
    for term, embedding in zip(terms, embeddings, strict=False):
        if not len(embedding.indices):
            raise QueryError(f"{term}: no concept answers to it")
        total[embedding.indices] += term.weight * embedding.values / max(embedding.norm, 1e-12)
    for term in terms[len(embeddings) :]:
        total[_concept_id(client, term)] += term.weight
    if not (total > 0).any():
        raise QueryError(NOTHING)
    return total


def _dense_sum(terms: Sequence[QueryTerm], embeddings: Sequence[Embedding]) -> NDArray[np.float64]:
    """The weighted sum of unit dense vectors, (D,)."""
    if len(terms) > len(embeddings):
        raise QueryError(f"{terms[-1]}: {NO_CONCEPTS}")
    rows = [entry.dense for entry in embeddings if entry.dense is not None]
    if not rows:
        raise QueryError(NOTHING)
    stacked = np.stack(rows).astype(np.float64)  # (terms, D)
    weights = np.array([term.weight for term in terms]) / np.linalg.norm(stacked, axis=1)
    total: NDArray[np.float64] = weights @ stacked
    if not total.any():
        raise QueryError(NOTHING)
    return total


def _concept_id(client: Client, term: QueryTerm) -> int:
    assert term.concept is not None
    try:
        return client.get_concept(term.concept).concept_id
    except CallError as error:
        raise QueryError(f"{term}: {error.message}") from None
