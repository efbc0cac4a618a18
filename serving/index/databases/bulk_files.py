"""OpenSearch and Elasticsearch: files for their `_bulk` call, the index to make, and queries.

Both keep 9 significant bits of a value and take none that is negative.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Literal

from bundle.atomic import is_draft
from serving.index.databases.base import Code, Origin, Row, SinkError, key_of
from serving.storage.location import Place, PlaceError

Dialect = Literal["opensearch", "elasticsearch"]

FIELD = "code"
INDEX = "index.json"
LARGEST = 50_000_000
"""Bytes of a file: servers refuse calls of more than 100 MB."""


class Bulk:
    """A folder of files that make an index."""

    def __init__(self, dialect: Dialect, location: str, name: str, largest: int = LARGEST) -> None:
        """Into a folder or an object store. Raises SinkError."""
        try:
            self._place = Place.of(location)
        except PlaceError as error:
            raise SinkError(f"{dialect}: {error}") from None
        self._dialect, self._name, self._largest = dialect, name, largest
        self._where = f"{dialect}:{location}"
        self._lines: list[bytes] = []
        self._size = self._files = 0

    def prepare(self, origin: Origin) -> None:
        """Writes what to make the index with, unless the folder holds another model's or files of
        something else."""
        names = self._place.names()
        if INDEX in names:
            self.origin().refuse_other(origin, self._where)
        elif foreign := [name for name in names if not is_draft(name)]:
            raise SinkError(
                f"{self._where}: not empty and not from `sparseclip index`: it holds "
                f"{foreign[0]!r}. Choose a new or an empty folder"
            )
        self._place.at(INDEX).write(json.dumps(self._index(origin), indent=1).encode())

    def origin(self) -> Origin:
        """The model whose codes it holds."""
        try:
            data = json.loads(self._place.at(INDEX).read())
            said = data["mappings"]["_meta"]["sparseclip"]
        except OSError:
            raise SinkError(f"{self._where}: no {INDEX}") from None
        except (ValueError, TypeError, KeyError):
            said = None
        return Origin.read(said, self._where)

    def load(self, rows: Sequence[Row]) -> None:
        """Puts rows into files; those without a concept, which no query finds, not."""
        for row in rows:
            if len(row.code.indices):
                self._add(self._lines_of(row))

    def finish(self) -> None:
        """Writes the last file, and removes what a longer run left."""
        self._write()
        for name in self._place.names():
            number = _FILE.fullmatch(name)
            if number and int(number[1]) >= self._files:
                self._place.at(name).remove()

    def close(self) -> None:
        """Nothing is open."""

    def body(self, query: Code, top: int) -> dict[str, Any]:
        """What to send to `_search`. Raises SinkError for a query with negative weights."""
        if (query.values < 0).any():
            raise SinkError(f"{self._dialect}: its queries take no negative weights")
        return {"query": self._query(_tokens(query)), "size": top, "_source": ["id", "source"]}

    def _query(self, tokens: dict[str, float]) -> dict[str, Any]:
        if self._dialect == "opensearch":
            return {"neural_sparse": {FIELD: {"query_tokens": tokens}}}
        return {"sparse_vector": {"field": FIELD, "query_vector": tokens, "prune": False}}

    def _index(self, origin: Origin) -> dict[str, Any]:
        # OpenSearch's own `sparse_vector` finds only some of the nearest; rank_features all.
        code: dict[str, Any] = {"type": "rank_features"}
        if self._dialect == "elasticsearch":
            code = {"type": "sparse_vector", "index_options": {"prune": False}}
        keyword = {"type": "keyword"}
        return {
            "mappings": {
                "_meta": {"sparseclip": origin.to_json()},
                "properties": {"id": keyword, "source": keyword, FIELD: code},
            }
        }

    def _lines_of(self, row: Row) -> bytes:
        # Their own ids end at 512 bytes, ours do not.
        action = {"index": {"_index": self._name, "_id": key_of(row.id)}}
        document = {"id": row.id, "source": row.source, FIELD: _tokens(row.code)}
        return f"{json.dumps(action)}\n{json.dumps(document)}\n".encode()

    def _add(self, lines: bytes) -> None:
        if self._lines and self._size + len(lines) > self._largest:
            self._write()
        self._lines.append(lines)
        self._size += len(lines)

    def _write(self) -> None:
        if self._lines:
            self._place.at(_file(self._files)).write(b"".join(self._lines))
            self._files, self._lines, self._size = self._files + 1, [], 0


_FILE = re.compile(r"bulk-(\d{6,})\.ndjson")


def _file(number: int) -> str:
    return f"bulk-{number:06d}.ndjson"


def _tokens(code: Code) -> dict[str, float]:
    """Six digits, as 9 bits are less than three."""
    return {str(concept): float(f"{value:.6g}") for concept, value in code.pairs().items()}
