"""What is searched for: texts, images and named concepts with weights, as one sparse vector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.index.databases.base import Code
from sparseclip import CallError, Client, ConceptKey, Embedding, ImageInput, ModelInfo


class QueryError(ValueError):
    """A query that nothing can answer; the message names what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class QueryTerm:
    """One thing that is looked for: a text or phrase, an image, or a single concept."""

    text: str | None = None
    image: ImageInput | None = None
    concept: ConceptKey | None = None
    """By id or by exact name."""
    weight: float = 1.0
    """Below 0: what is not to be there."""

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
    """A query and the model that it is of."""

    code: Code
    """Of length 1."""
    model: str
    """Name and version."""


def make_query(client: Client, parts: Sequence[QueryTerm]) -> Query:
    """The weighted sum of all parts' unit codes, as a unit vector.

    Raises QueryError naming the part, or CallError.
    """
    info = client.model_info()
    images = [part for part in parts if part.image is not None]
    texts = [part for part in parts if part.text is not None]
    total = np.zeros(info.concepts)
    answers = client.embed(
        [part.image for part in images if part.image is not None],
        [part.text for part in texts if part.text is not None],
    )
    for part, answer in zip([*images, *texts], answers, strict=True):
        indices, values = _unit(part, answer, info)
        total[indices] += part.weight * values
    for part in parts:
        if part.concept is not None:
            total[_concept(client, part)] += part.weight
    norm = float(np.linalg.norm(total))
    if not (total > 0).any():
        raise QueryError("query: nothing in it is looked for: add a text, an image or a concept")
    indices = np.flatnonzero(total).astype(np.uint32)
    code = Code(indices, (total[indices] / norm).astype(np.float32))
    return Query(code=code, model=f"{info.model.name}/{info.model.version}")


def _unit(
    part: QueryTerm, answer: Embedding, info: ModelInfo
) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    if not answer.ok:
        raise QueryError(f"{part}: {answer.status.message}")
    if answer.model != info.model:
        raise QueryError("query: the model was replaced while it was made; search again")
    if not len(answer.indices):
        raise QueryError(f"{part}: no concept answers to it")
    return answer.indices, answer.values / max(answer.norm, 1e-12)


def _concept(client: Client, part: QueryTerm) -> int:
    assert part.concept is not None
    try:
        return client.get_concept(part.concept).concept_id
    except CallError as error:
        raise QueryError(f"{part}: {error.message}") from None
