"""The contract of a database: rows go in by their ids, and a query finds the nearest.

C concepts, K active concepts of a row, D width of dense vectors.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


class DatabaseError(RuntimeError):
    """A database that cannot be used; the message says why."""


class Code(NamedTuple):
    """A sparse unit vector over C concepts: a row's code divided by its norm, or a query. The inner
    product of two is their cosine. Only queries have values below 0."""

    indices: NDArray[np.uint32]
    """(K,), strictly increasing."""
    values: NDArray[np.float32]
    """(K,), finite, none 0."""

    def pairs(self) -> dict[int, float]:
        """Concept ids to values."""
        return dict(zip(self.indices.tolist(), self.values.tolist(), strict=True))


Vector = Code | NDArray[np.float32]
"""What is compared, of length 1: a sparse model's code, or a dense vector (D,)."""


def is_blank(vector: Vector) -> bool:
    """Whether it is a code without a concept, which no query can find."""
    return isinstance(vector, Code) and not len(vector.indices)


class IndexRow(NamedTuple):
    """A row of an export, as it goes into a database."""

    id: str
    source: str
    vector: Vector
    stamp: str = ""
    """The export and its generation that made the row: see `export_of`."""


class Hit(NamedTuple):
    """A row that a query found."""

    id: str
    source: str
    score: float
    """Its cosine with the query."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The model whose codes or dense vectors a collection holds. It is stored with the collection,
    because those of different models cannot be compared."""

    model: str
    """Name and version."""
    bundle: str
    """sha256 of the bundle's manifest."""
    dense_dim: int = 0
    """D, the width of dense vectors; 0 for codes."""

    def to_json(self) -> str:
        """Equal origins give equal texts. Those of codes have no `dense_dim`."""
        fields = {name: value for name, value in asdict(self).items() if value != 0}
        return json.dumps(fields, sort_keys=True)

    @classmethod
    def read(cls, text: str | None, where: str) -> Origin:
        """Reads what `to_json` wrote. Raises DatabaseError for anything else; `where` begins the
        message."""
        try:
            data = json.loads(text or "")
            return cls(
                model=str(data["model"]),
                bundle=str(data["bundle"]),
                dense_dim=int(data.get("dense_dim", 0)),
            )
        except (ValueError, TypeError, KeyError):
            raise DatabaseError(f"{where}: is there, but not from `sparseclip index`") from None

    def refuse_other(self, other: Origin, where: str) -> None:
        """Raises DatabaseError unless what both hold can be compared."""
        holds = f"{where}: holds {self._what}"
        if self.model != other.model:
            raise DatabaseError(f"{holds} of {self.model}, not of {other.model}")
        if self.bundle != other.bundle:
            raise DatabaseError(f"{holds} of another {self.model} than this")
        if self.dense_dim != other.dense_dim:
            raise DatabaseError(f"{holds}, not {other._what}")

    @property
    def _what(self) -> str:
        return "dense vectors" if self.dense_dim else "codes"


@dataclass(frozen=True, kw_only=True)
class DatabaseOptions:
    """What a user says about a collection beside its database's address."""

    name: str
    """The collection or table."""
    token: str | None = None
    """The key of a server; databases without one ignore it."""
    hnsw: bool = False
    """Build an HNSW index as well. Only databases that have one take it."""


class Database(Protocol):
    """A collection of rows in a database. All methods raise DatabaseError.

    A database that answers queries is a SearchableDatabase; one that is only written to, and
    searched by its own means, is a RequestWriter.
    """

    has_hnsw: ClassVar[bool]
    """Whether `DatabaseOptions.hnsw` means something."""

    @classmethod
    def open(cls, location: str, options: DatabaseOptions) -> Database:
        """Opens the collection at an address: what follows the database's name and a colon in
        `sparseclip index`. Creates nothing, so that a search at a mistyped address leaves nothing
        there."""

    def prepare(self, origin: Origin, export: str = "") -> None:
        """Creates the collection, for codes or for the dense vectors that `origin` says, or makes
        sure that the one there holds the same. One that holds a single export refuses another
        `export`."""

    def load(self, rows: Sequence[IndexRow]) -> None:
        """Puts rows in. A row replaces the one with the same id."""

    def remove(self, ids: Sequence[str]) -> None:
        """Removes the rows with these ids, if they are there."""

    def finish(self) -> None:
        """Makes what was loaded durable and ready to be searched."""

    def origin(self) -> Origin:
        """The model whose codes or dense vectors the collection holds."""

    def close(self) -> None:
        """Ends the connection."""


@runtime_checkable
class SearchableDatabase(Database, Protocol):
    """A database that answers queries itself."""

    def count(self) -> int:
        """How many rows the collection holds."""

    def stamps(self, ids: Sequence[str]) -> dict[str, str]:
        """The stamps of those of these rows that the collection holds, by their ids."""

    def search(self, query: Vector, top: int) -> list[Hit]:
        """The `top` rows of the highest cosine with the query, best first. Of codes, none of 0 or
        less: they share no concept with the query."""


@runtime_checkable
class RequestWriter(Database, Protocol):
    """A database that nothing here connects to: it gets files, and answers requests that a user
    sends."""

    def search_request(self, query: Vector, top: int) -> dict[str, Any]:
        """The JSON body of the request for the `top` rows of the highest cosine with the query."""


@contextmanager
def translate_errors(
    database: str,
    is_its_error: Callable[[BaseException], bool],
    message: Callable[[BaseException], str] = str,
) -> Iterator[None]:
    """Raises DatabaseError in place of the errors of a database's library, with the first line of
    their message: some add an address, a key or a traceback in the lines below."""
    try:
        yield
    except DatabaseError:
        raise
    except BaseException as error:
        if not is_its_error(error):
            raise
        line = message(error).strip().partition("\n")[0]
        raise DatabaseError(f"{database}: {line or type(error).__name__}") from None


def export_of(stamp: str) -> str:
    """The export that a stamp names; empty for a row that an earlier version put in."""
    return stamp.partition(" ")[0]


def key_of(row_id: str) -> str:
    """A UUID made from a row's id, for databases that limit the length or the form of ids."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, row_id))
