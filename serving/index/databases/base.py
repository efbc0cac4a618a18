"""The contract of a database: rows of codes go in by their ids, a query finds the nearest."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class SinkError(RuntimeError):
    """A database that cannot be used; the message says why."""


class Code(NamedTuple):
    """A sparse vector over C concepts. A row's is its code divided by its norm, so that inner
    products of two are cosines; only a query's has values below 0."""

    indices: NDArray[np.uint32]
    """(K,), strictly increasing."""
    values: NDArray[np.float32]
    """(K,), finite, none 0."""

    def pairs(self) -> dict[int, float]:
        """Concept ids to values."""
        return dict(zip(self.indices.tolist(), self.values.tolist(), strict=True))


class Row(NamedTuple):
    """A row of an export."""

    id: str
    source: str
    code: Code


class Hit(NamedTuple):
    """A row that a query found."""

    id: str
    source: str
    score: float
    """Its cosine with the query."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The model whose codes a collection holds; stored with it, as codes of two do not compare."""

    model: str
    """Name and version."""
    bundle: str
    """sha256 of the bundle's manifest."""

    def to_json(self) -> str:
        """As JSON, one spelling."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def read(cls, text: str | None, where: str) -> Origin:
        """What `to_json` wrote; `where` begins the message. Raises SinkError for anything else."""
        try:
            data = json.loads(text or "")
            return cls(model=str(data["model"]), bundle=str(data["bundle"]))
        except (ValueError, TypeError, KeyError):
            raise SinkError(f"{where}: is there, but not from `sparseclip index`") from None

    def refuse_other(self, other: Origin, where: str) -> None:
        """Raises SinkError unless codes of the two compare."""
        if self.model != other.model:
            raise SinkError(f"{where}: holds codes of {self.model}, not of {other.model}")
        if self.bundle != other.bundle:
            raise SinkError(f"{where}: holds codes of another {self.model} than this")


class Sink(Protocol):
    """Where rows go. All methods raise SinkError."""

    def prepare(self, origin: Origin) -> None:
        """Makes the collection, or makes sure that the one there is of the same model."""

    def load(self, rows: Sequence[Row]) -> None:
        """Puts rows in; a row takes the place of one with the same id."""

    def finish(self) -> None:
        """Makes all that was loaded last, and ready to be searched."""

    def close(self) -> None:
        """Ends the connection."""


class Database(Sink, Protocol):
    """A sink that answers."""

    def origin(self) -> Origin:
        """The model whose codes it holds."""

    def count(self) -> int:
        """Rows that it holds."""

    def search(self, query: Code, top: int) -> list[Hit]:
        """The `top` rows of the highest cosine with the query, best first; none of 0 or less."""


def key_of(row_id: str) -> str:
    """A UUID for an id, for databases whose own ids are short or UUIDs."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, row_id))
