"""Qdrant: a server by its address. Exact search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from serving.index.databases.base import Code, Hit, Origin, Row, SinkError, key_of

VECTOR = "code"
ORIGIN = "sparseclip"
"""In the collection's metadata."""


class Qdrant:
    """A collection of Qdrant."""

    def __init__(self, location: str, name: str, token: str | None) -> None:
        """Opens a server at http:// or https://. Raises SinkError."""
        from qdrant_client import QdrantClient

        self._name, self._where = name, f"name {name}"
        with _told():
            # Its check of versions warns where the server is away, beside our own line.
            self._client = QdrantClient(
                url=location, api_key=token, timeout=60, check_compatibility=False
            )

    def prepare(self, origin: Origin) -> None:
        """Makes the collection, or makes sure that the one there is of the same model."""
        from qdrant_client import models

        with _told():
            if not self._client.collection_exists(self._name):
                self._client.create_collection(
                    self._name,
                    vectors_config={},
                    sparse_vectors_config={VECTOR: models.SparseVectorParams()},
                    metadata={ORIGIN: origin.to_json()},
                )
        self.origin().refuse_other(origin, self._where)

    def origin(self) -> Origin:
        """The model whose codes it holds."""
        with _told():
            if not self._client.collection_exists(self._name):
                raise SinkError(f"{self._where}: there is no such collection")
            metadata = self._client.get_collection(self._name).config.metadata
        return Origin.read((metadata or {}).get(ORIGIN), self._where)

    def load(self, rows: Sequence[Row]) -> None:
        """Puts rows in."""
        from qdrant_client import models

        points = [
            models.PointStruct(
                id=key_of(row.id),
                vector={VECTOR: _vector(row.code)},
                payload={"id": row.id, "source": row.source},
            )
            for row in rows
        ]
        with _told():
            self._client.upsert(self._name, points, wait=True)

    def finish(self) -> None:
        """Nothing is left to do: every load waits until its rows are there."""

    def count(self) -> int:
        """Rows that it holds."""
        with _told():
            return self._client.count(self._name).count

    def search(self, query: Code, top: int) -> list[Hit]:
        """The nearest rows. Negative weights are part of Qdrant's queries."""
        with _told():
            points = self._client.query_points(
                self._name, query=_vector(query), using=VECTOR, limit=top
            ).points
        found = [(point.payload or {}, point.score) for point in points if point.score > 0]
        return [Hit(payload["id"], payload["source"], score) for payload, score in found]

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()


def _vector(code: Code) -> Any:
    from qdrant_client import models

    return models.SparseVector(indices=code.indices.tolist(), values=code.values.tolist())


@contextmanager
def _told() -> Iterator[None]:
    """Qdrant's errors as one line."""
    from qdrant_client.http.exceptions import ApiException

    try:
        yield
    except SinkError:
        raise
    except (ApiException, OSError, RuntimeError, ValueError) as error:
        line = str(error).strip().partition("\n")[0]
        raise SinkError(f"qdrant: {line or type(error).__name__}") from None
