"""Qdrant: a server by its address. Exact search."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Self

from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException

from serving.index.databases.base import (
    Code,
    DatabaseError,
    DatabaseOptions,
    Hit,
    IndexRow,
    Origin,
    Vector,
    key_of,
    translate_errors,
)

CODE, DENSE, STAMP = "code", "dense", "stamp"
ORIGIN = "sparseclip"
"""A key of the collection's metadata."""

_translate_errors = partial(
    translate_errors,
    "qdrant",
    lambda error: isinstance(error, ApiException | OSError | RuntimeError | ValueError),
)


class QdrantServer:
    """See SearchableDatabase."""

    has_hnsw: ClassVar[bool] = False

    def __init__(self, location: str, name: str, token: str | None) -> None:
        """Connects to http:// or https://. Raises DatabaseError."""
        self._name, self._where = name, f"name {name}"
        with _translate_errors():
            # The client's check of versions warns where the server is away, beside our own line.
            self._client = QdrantClient(
                url=location, api_key=token, timeout=60, check_compatibility=False
            )

    @classmethod
    def open(cls, location: str, options: DatabaseOptions) -> Self:
        """See Database.open. The location is a URL."""
        return cls(location, options.name, options.token)

    def prepare(self, origin: Origin, export: str = "") -> None:
        """See Database.prepare."""
        with _translate_errors():
            if not self._client.collection_exists(self._name):
                self._client.create_collection(
                    self._name, **_columns(origin), metadata={ORIGIN: origin.to_json()}
                )
        self.origin().refuse_other(origin, self._where)

    def origin(self) -> Origin:
        """See Database.origin."""
        with _translate_errors():
            if not self._client.collection_exists(self._name):
                raise DatabaseError(f"{self._where}: there is no such collection")
            metadata = self._client.get_collection(self._name).config.metadata
        return Origin.read((metadata or {}).get(ORIGIN), self._where)

    def load(self, rows: Sequence[IndexRow]) -> None:
        """See Database.load."""
        points = [
            models.PointStruct(
                id=key_of(row.id),
                vector=_vector(row.vector),
                payload={"id": row.id, "source": row.source, STAMP: row.stamp},
            )
            for row in rows
        ]
        with _translate_errors():
            self._client.upsert(self._name, points, wait=True)

    def remove(self, ids: Sequence[str]) -> None:
        """See Database.remove."""
        keys = models.PointIdsList(points=[key_of(id) for id in ids])
        with _translate_errors():
            self._client.delete(self._name, keys, wait=True)

    def finish(self) -> None:
        """See Database.finish. Nothing is left to do: every load waits until its rows are there."""

    def count(self) -> int:
        """See SearchableDatabase.count."""
        with _translate_errors():
            return self._client.count(self._name).count

    def stamps(self, ids: Sequence[str]) -> dict[str, str]:
        """See SearchableDatabase.stamps."""
        keys = [key_of(id) for id in ids]
        with _translate_errors():
            points = self._client.retrieve(self._name, keys, with_payload=["id", STAMP])
        payloads = [point.payload or {} for point in points]
        return {payload["id"]: payload.get(STAMP, "") for payload in payloads}

    def search(self, query: Vector, top: int) -> list[Hit]:
        """See SearchableDatabase.search. Qdrant's queries take negative weights."""
        [(name, vector)] = _vector(query).items()
        with _translate_errors():
            points = self._client.query_points(
                self._name,
                query=vector,
                using=name,
                limit=top,
                search_params=models.SearchParams(exact=name == DENSE),  # codes always are
            ).points
        scored = [(point.payload or {}, point.score) for point in points]
        if isinstance(query, Code):
            scored = [(payload, score) for payload, score in scored if score > 0]
        return [Hit(payload["id"], payload["source"], score) for payload, score in scored]

    def close(self) -> None:
        """See Database.close."""
        self._client.close()


def _columns(origin: Origin) -> dict[str, Any]:
    """What a collection holds of each row."""
    if origin.dense_dim:
        params = models.VectorParams(size=origin.dense_dim, distance=models.Distance.COSINE)
        return {"vectors_config": {DENSE: params}}
    return {"vectors_config": {}, "sparse_vectors_config": {CODE: models.SparseVectorParams()}}


def _vector(vector: Vector) -> dict[str, Any]:
    """A row's code or dense vector under its name."""
    if not isinstance(vector, Code):
        return {DENSE: vector.tolist()}
    code = models.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())
    return {CODE: code}
