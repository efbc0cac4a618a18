"""OpenSearch and Elasticsearch: files for their `_bulk` call, the index to create, and requests.

Nothing here connects to a server: a user sends the files with any HTTP client. Both databases keep
9 significant bits of a code's value and take no negative one. Dense vectors are compared exactly,
by a script that the request names.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from bundle.atomic import is_draft
from serving.index.databases.base import (
    Code,
    DatabaseError,
    DatabaseOptions,
    IndexRow,
    Origin,
    Vector,
    is_blank,
    key_of,
)
from serving.storage.location import Location, LocationError

CODE, DENSE = "code", "dense"
_FILE_NAME = re.compile(r"bulk-(\d{6,})\.ndjson")
INDEX = "index.json"
MAX_FILE_BYTES = 50_000_000
"""Servers refuse calls of more than 100 MB."""


class BulkFiles(ABC):
    """See RequestWriter. A folder, or a prefix of an object store, that holds one export."""

    has_hnsw: ClassVar[bool] = False
    database: ClassVar[str]
    """Its name, for messages."""

    def __init__(self, folder: Location, name: str, where: str) -> None:
        """`where` begins messages about the folder."""
        self._folder, self._name, self._where = folder, name, where
        self._export = ""
        self._lines: list[bytes] = []
        self._size = self._files = 0

    @classmethod
    def open(cls, location: str, options: DatabaseOptions) -> Self:
        """See Database.open. The location is a path or an fsspec URL."""
        try:
            folder = Location.parse(location)
        except LocationError as error:
            raise DatabaseError(f"{cls.database}: {error}") from None
        return cls(folder, options.name, f"{cls.database}:{location}")

    def prepare(self, origin: Origin, export: str = "") -> None:
        """See Database.prepare. Writes what to create the index with. Refuses a folder that holds
        files of something else."""
        self._export, names = export, self._folder.names()
        if INDEX in names:
            self.origin().refuse_other(origin, self._where)
            if self._meta().get("export", export) != export:
                raise DatabaseError(
                    f"{self._where}: holds another export. Choose a new or an empty folder"
                )
        elif foreign := [name for name in names if not is_draft(name)]:
            raise DatabaseError(
                f"{self._where}: not empty and not from `sparseclip index`: it holds "
                f"{foreign[0]!r}. Choose a new or an empty folder"
            )
        keyword = {"type": "keyword"}
        index = {
            "mappings": {
                "_meta": {"sparseclip": origin.to_json(), "export": export},
                "properties": {"id": keyword, "source": keyword, **self._field(origin)},
            }
        }
        self._folder.at(INDEX).write(json.dumps(index, indent=1).encode())

    def origin(self) -> Origin:
        """See Database.origin."""
        return Origin.read(self._meta().get("sparseclip"), self._where)

    def _meta(self) -> dict[str, str]:
        """What the index's file says of its contents. Raises DatabaseError when there is none."""
        try:
            index = json.loads(self._folder.at(INDEX).read())
            return dict(index["mappings"]["_meta"])
        except OSError:
            raise DatabaseError(f"{self._where}: no {INDEX}") from None
        except (ValueError, TypeError, KeyError):
            return {}

    def load(self, rows: Sequence[IndexRow]) -> None:
        """See Database.load. Rows without a concept are left out: no query could find them."""
        for row in rows:
            if not is_blank(row.vector):
                self._add(self._document(row))

    def remove(self, ids: Sequence[str]) -> None:
        """See Database.remove. Adds actions that delete the documents."""
        for id in ids:
            self._add(f"{json.dumps({'delete': self._address(id)})}\n".encode())

    def finish(self) -> None:
        """See Database.finish. Removes the files that a longer export left in this folder."""
        self._write()
        for name in self._folder.names():
            number = _FILE_NAME.fullmatch(name)
            if number and int(number[1]) >= self._files:
                self._folder.at(name).remove()

    def close(self) -> None:
        """See Database.close. Drops the rows that `finish` did not write."""
        self._lines.clear()

    def search_request(self, query: Vector, top: int) -> dict[str, Any]:
        """See RequestWriter.search_request. Raises DatabaseError for negative weights of a code."""
        if isinstance(query, Code):
            if (query.values < 0).any():
                raise DatabaseError(f"{self.database}: its queries take no negative weights")
            body = self._query(_tokens(query))
        else:
            script = self._cosine_script(query.tolist())
            body = {"script_score": {"query": {"match_all": {}}, "script": script}}
        return {"query": body, "size": top, "_source": ["id", "source"]}

    def _field(self, origin: Origin) -> dict[str, Any]:
        """The mapping of the field that holds the codes or the dense vectors."""
        if origin.dense_dim:
            return {DENSE: self._dense_type(origin.dense_dim)}
        return {CODE: self._code_type()}

    @abstractmethod
    def _code_type(self) -> dict[str, Any]:
        """The mapping of a field of codes."""

    @abstractmethod
    def _dense_type(self, width: int) -> dict[str, Any]:
        """The mapping of a field of dense vectors (D,)."""

    @abstractmethod
    def _cosine_script(self, vector: list[float]) -> dict[str, Any]:
        """The script that scores all rows by 1 + their cosine with a dense vector."""

    @abstractmethod
    def _query(self, tokens: dict[str, float]) -> dict[str, Any]:
        """The query for rows with these tokens."""

    def _address(self, row_id: str) -> dict[str, str]:
        """The document of a row. No two exports share one, as nothing here could tell whose it is.
        The databases' own ids end at 512 bytes, those of an export do not."""
        return {"_index": self._name, "_id": key_of(f"{self._export} {row_id}")}

    def _document(self, row: IndexRow) -> bytes:
        action = {"index": self._address(row.id)}
        vector = row.vector
        held = {CODE: _tokens(vector)} if isinstance(vector, Code) else {DENSE: vector.tolist()}
        document = {"id": row.id, "source": row.source, **held}
        return f"{json.dumps(action)}\n{json.dumps(document)}\n".encode()

    def _add(self, lines: bytes) -> None:
        if self._lines and self._size + len(lines) > MAX_FILE_BYTES:
            self._write()
        self._lines.append(lines)
        self._size += len(lines)

    def _write(self) -> None:
        if self._lines:
            self._folder.at(_file_name(self._files)).write(b"".join(self._lines))
            self._files, self._lines, self._size = self._files + 1, [], 0


class OpenSearchFiles(BulkFiles):
    """OpenSearch. Its own `sparse_vector` finds only some of the nearest rows; rank_features finds
    all."""

    database = "opensearch"

    def _code_type(self) -> dict[str, Any]:
        return {"type": "rank_features"}

    def _dense_type(self, width: int) -> dict[str, Any]:
        return {"type": "knn_vector", "dimension": width}

    def _cosine_script(self, vector: list[float]) -> dict[str, Any]:
        params = {"field": DENSE, "query_value": vector, "space_type": "cosinesimil"}
        return {"source": "knn_score", "lang": "knn", "params": params}

    def _query(self, tokens: dict[str, float]) -> dict[str, Any]:
        return {"neural_sparse": {CODE: {"query_tokens": tokens}}}


class ElasticsearchFiles(BulkFiles):
    """Elasticsearch. It prunes queries by default, and would miss rows."""

    database = "elasticsearch"

    def _code_type(self) -> dict[str, Any]:
        return {"type": "sparse_vector", "index_options": {"prune": False}}

    def _dense_type(self, width: int) -> dict[str, Any]:
        # Not indexed: an index of neighbours would miss rows.
        return {"type": "dense_vector", "dims": width, "index": False}

    def _cosine_script(self, vector: list[float]) -> dict[str, Any]:
        # Scores must not be negative.
        source = f"cosineSimilarity(params.query, '{DENSE}') + 1.0"
        return {"source": source, "params": {"query": vector}}

    def _query(self, tokens: dict[str, float]) -> dict[str, Any]:
        return {"sparse_vector": {"field": CODE, "query_vector": tokens, "prune": False}}


def _file_name(number: int) -> str:
    return f"bulk-{number:06d}.ndjson"


def _tokens(code: Code) -> dict[str, float]:
    """Concept ids as text, and values of six digits: the databases' 9 bits are less than three."""
    return {str(concept): float(f"{value:.6g}") for concept, value in code.pairs().items()}
