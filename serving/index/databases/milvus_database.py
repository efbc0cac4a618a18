"""Milvus: a server by its address, or Milvus Lite in a `.db` file. Exact search."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from serving.index.databases._rescoring import Candidate, search_signed
from serving.index.databases.base import (
    Code,
    DatabaseError,
    DatabaseOptions,
    Hit,
    IndexRow,
    Origin,
    Vector,
    is_blank,
    translate_errors,
)

CODE, DENSE, STAMP = "code", "dense", "stamp"
ORIGIN = "sparseclip.origin"
"""A property of the collection."""
MAX_TEXT_BYTES = 65_535
"""Milvus's limit for an id or a source."""
MAX_STAMP_BYTES = 64
MAX_ROWS = 16_384
"""Milvus's limit for the rows of one answer."""


def _message(error: BaseException) -> str:
    return str(error.message if isinstance(error, MilvusException) else error)


_translate_errors = partial(
    translate_errors,
    "milvus",
    lambda error: isinstance(error, MilvusException | OSError | ValueError),
    _message,
)


class MilvusDatabase:
    """See SearchableDatabase. Milvus Lite makes its file as soon as it is opened, so a file that is
    not there is opened by `prepare` only."""

    has_hnsw: ClassVar[bool] = False

    def __init__(self, location: str, name: str, token: str | None) -> None:
        # pymilvus logs what it raises, with a traceback, beside our own line.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        self._name, self._where = name, f"name {name}"
        self._location, self._token = location, token
        self._connection: MilvusClient | None = None

    @classmethod
    def open(cls, location: str, options: DatabaseOptions) -> Self:
        """See Database.open. The location is a server's address, or a file that ends in .db."""
        is_server = "://" in location
        if not is_server and not location.endswith(".db"):
            raise DatabaseError(f"milvus: {location}: neither an address nor a file ending in .db")
        database = cls(location, options.name, options.token)
        if is_server or Path(location).exists():
            database._connect()
        return database

    def _connect(self) -> None:
        with _translate_errors():
            self._connection = MilvusClient(self._location, token=self._token or "", timeout=60)

    @property
    def _client(self) -> MilvusClient:
        if self._connection is None:
            raise DatabaseError(f"milvus: {self._location}: not found")
        return self._connection

    def prepare(self, origin: Origin, export: str = "") -> None:
        """See Database.prepare."""
        if self._connection is None:
            self._connect()
        with _translate_errors():
            if not self._client.has_collection(self._name):
                schema = self._client.create_schema(auto_id=False)
                schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=MAX_TEXT_BYTES)
                schema.add_field("source", DataType.VARCHAR, max_length=MAX_TEXT_BYTES)
                schema.add_field(STAMP, DataType.VARCHAR, max_length=MAX_STAMP_BYTES)
                index = self._client.prepare_index_params()
                if origin.dense_dim:
                    schema.add_field(DENSE, DataType.FLOAT_VECTOR, dim=origin.dense_dim)
                    index.add_index(DENSE, index_type="FLAT", metric_type="COSINE")
                else:
                    schema.add_field(CODE, DataType.SPARSE_FLOAT_VECTOR)
                    index.add_index(CODE, index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
                self._client.create_collection(
                    self._name,
                    schema=schema,
                    index_params=index,
                    properties={ORIGIN: origin.to_json()},
                    consistency_level="Strong",
                )
        self.origin().refuse_other(origin, self._where)
        with _translate_errors():
            fields = self._client.describe_collection(self._name)["fields"]
        if STAMP not in [field["name"] for field in fields]:
            raise DatabaseError(
                f"{self._where}: an earlier sparseclip made it, and it cannot be updated; index "
                "into another name"
            )

    def origin(self) -> Origin:
        """See Database.origin."""
        with _translate_errors():
            if not self._client.has_collection(self._name):
                raise DatabaseError(f"{self._where}: there is no such collection")
            description = self._client.describe_collection(self._name)
            self._client.load_collection(self._name)
        return Origin.read(description.get("properties", {}).get(ORIGIN), self._where)

    def load(self, rows: Sequence[IndexRow]) -> None:
        """See Database.load. Rows without a concept are left out: Milvus refuses them, and no query
        could find them."""
        data = [
            {"id": row.id, "source": row.source, STAMP: row.stamp, **_vector(row.vector)}
            for row in rows
            if not is_blank(row.vector)
        ]
        if data:
            with _translate_errors():
                self._client.upsert(self._name, data)
        self.remove([row.id for row in rows if is_blank(row.vector)])

    def remove(self, ids: Sequence[str]) -> None:
        """See Database.remove."""
        if ids:
            with _translate_errors():
                self._client.delete(self._name, ids=list(ids))

    def finish(self) -> None:
        """See Database.finish."""
        with _translate_errors():
            self._client.flush(self._name)

    def count(self) -> int:
        """See SearchableDatabase.count."""
        with _translate_errors():
            [row] = self._client.query(self._name, filter="", output_fields=["count(*)"])
            return int(row["count(*)"])

    def stamps(self, ids: Sequence[str]) -> dict[str, str]:
        """See SearchableDatabase.stamps."""
        with _translate_errors():
            rows = self._client.get(self._name, list(ids), output_fields=["id", STAMP])
        return {row["id"]: row[STAMP] for row in rows}

    def search(self, query: Vector, top: int) -> list[Hit]:
        """See SearchableDatabase.search. Milvus takes no negative weights: for a query that has
        some, rows are fetched and scored here."""
        if isinstance(query, Code) and (query.values < 0).any():
            return search_signed(self._candidates, query, top, MAX_ROWS)
        return [
            Hit(hit["id"], hit["entity"]["source"], hit["distance"])
            for hit in self._nearest(query, top, ["source"])
        ]

    def _candidates(self, query: Code, count: int) -> list[Candidate]:
        return [
            Candidate(hit["id"], hit["entity"]["source"], hit["entity"][CODE])
            for hit in self._nearest(query, count, ["source", CODE])
        ]

    def _nearest(self, query: Vector, count: int, fields: list[str]) -> list[dict[str, Any]]:
        [(name, vector)] = _vector(query).items()
        metric = "IP" if name == CODE else "COSINE"
        with _translate_errors():
            [hits] = self._client.search(
                self._name,
                data=[vector],
                anns_field=name,
                limit=count,
                output_fields=fields,
                search_params={"metric_type": metric},
            )
        return list(hits)

    def close(self) -> None:
        """See Database.close."""
        if self._connection is not None:
            self._connection.close()


def _vector(vector: Vector) -> dict[str, Any]:
    """A row's code or dense vector under the name of its field."""
    return {CODE: vector.pairs()} if isinstance(vector, Code) else {DENSE: vector.tolist()}
