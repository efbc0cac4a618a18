"""Milvus: a server by its address, or Milvus Lite in a `.db` file. Exact search."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.index.databases.base import Code, Hit, Origin, Row, SinkError
from serving.index.databases.rescore import Found, search_signed

if TYPE_CHECKING:
    from pymilvus import MilvusClient

VECTOR = "code"
ORIGIN = "sparseclip.origin"
"""A property of the collection."""
LONGEST = 65_535
"""Bytes of an id or a source, Milvus's limit."""
MOST = 16_384
"""Rows of one answer, Milvus's limit."""


class Milvus:
    """A collection of Milvus."""

    def __init__(self, location: str, name: str, token: str | None) -> None:
        """Opens a server at an address, or a file that is there. Raises SinkError."""
        # It logs what it raises, with a traceback, beside our own line.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        if "://" not in location and not location.endswith(".db"):
            raise SinkError(f"milvus: {location}: neither an address nor a file ending in .db")
        self._name, self._where = name, f"name {name}"
        self._location, self._token = location, token
        self._opened: MilvusClient | None = None
        if "://" in location or Path(location).exists():
            self._open()

    def _open(self) -> None:
        from pymilvus import MilvusClient

        with _told():
            self._opened = MilvusClient(self._location, token=self._token or "", timeout=60)

    @property
    def _client(self) -> MilvusClient:
        # Opening a file makes it, which is left to `prepare`.
        if self._opened is None:
            raise SinkError(f"milvus: {self._location}: not found")
        return self._opened

    def prepare(self, origin: Origin) -> None:
        """Makes the collection, or makes sure that the one there is of the same model."""
        from pymilvus import DataType

        if self._opened is None:
            self._open()
        with _told():
            if not self._client.has_collection(self._name):
                schema = self._client.create_schema(auto_id=False)
                schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=LONGEST)
                schema.add_field("source", DataType.VARCHAR, max_length=LONGEST)
                schema.add_field(VECTOR, DataType.SPARSE_FLOAT_VECTOR)
                index = self._client.prepare_index_params()
                index.add_index(VECTOR, index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
                self._client.create_collection(
                    self._name,
                    schema=schema,
                    index_params=index,
                    properties={ORIGIN: origin.to_json()},
                    consistency_level="Strong",
                )
        self.origin().refuse_other(origin, self._where)

    def origin(self) -> Origin:
        """The model whose codes it holds."""
        with _told():
            if not self._client.has_collection(self._name):
                raise SinkError(f"{self._where}: there is no such collection")
            told = self._client.describe_collection(self._name)
            self._client.load_collection(self._name)
        return Origin.read(told.get("properties", {}).get(ORIGIN), self._where)

    def load(self, rows: Sequence[Row]) -> None:
        """Puts rows in; those without a concept, which Milvus refuses and no query finds, not."""
        data = [
            {"id": row.id, "source": row.source, VECTOR: row.code.pairs()}
            for row in rows
            if len(row.code.indices)
        ]
        if data:
            with _told():
                self._client.upsert(self._name, data)

    def finish(self) -> None:
        """Writes what is in memory."""
        with _told():
            self._client.flush(self._name)

    def count(self) -> int:
        """Rows that it holds."""
        with _told():
            [row] = self._client.query(self._name, filter="", output_fields=["count(*)"])
            return int(row["count(*)"])

    def search(self, query: Code, top: int) -> list[Hit]:
        """The nearest rows. Milvus takes no negative weights: with some, rows are scored here."""
        if (query.values < 0).any():
            return search_signed(self._found, query, top, MOST)
        return [
            Hit(hit["id"], hit["entity"]["source"], hit["distance"])
            for hit in self._nearest(query, top, ["source"])
        ]

    def _found(self, query: Code, count: int) -> list[Found]:
        return [
            Found(hit["id"], hit["entity"]["source"], hit["entity"][VECTOR])
            for hit in self._nearest(query, count, ["source", VECTOR])
        ]

    def _nearest(self, query: Code, count: int, fields: list[str]) -> list[dict[str, Any]]:
        with _told():
            [hits] = self._client.search(
                self._name,
                data=[query.pairs()],
                anns_field=VECTOR,
                limit=count,
                output_fields=fields,
                search_params={"metric_type": "IP"},
            )
        return list(hits)

    def close(self) -> None:
        """Ends the connection, or lets go of the file."""
        if self._opened is not None:
            self._opened.close()


@contextmanager
def _told() -> Iterator[None]:
    """Milvus's errors as one line."""
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except MilvusException as error:
        line = str(error.message).strip().partition("\n")[0]
        raise SinkError(f"milvus: {line}") from None
    except (OSError, ValueError) as error:
        raise SinkError(f"milvus: {error}") from None
