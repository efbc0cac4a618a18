"""Qdrant: its engine inside this process, with its files in a folder; or a server (see
_qdrant_server.py). Exact search.

FOLDER/NAME is a collection. One process at a time has it open, to load or to search: the engine
rewrites some of its files even for a search.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from qdrant_edge import (
    CountRequest,
    Distance,
    EdgeConfig,
    EdgeShard,
    EdgeSparseVectorParams,
    EdgeVectorParams,
    Point,
    Query,
    QueryRequest,
    SearchParams,
    SparseVector,
    UpdateOperation,
)

from bundle.atomic import staging_directory
from serving.index.databases.base import (
    Code,
    DatabaseError,
    DatabaseOptions,
    Hit,
    IndexRow,
    Origin,
    SearchableDatabase,
    Vector,
    key_of,
    translate_errors,
)

CODE, DENSE, STAMP = "code", "dense", "stamp"
ORIGIN = "sparseclip.json"
"""A file beside the engine's own."""
MIN_FREE_BYTES = 64 * 2**20
"""Space that must be free on the disk, far more than a load takes. The engine writes to holes in
mapped files: on a full disk it ends the process without a word."""
PICKLES = "collection/*/storage.sqlite"
"""Where qdrant-client's local mode keeps its rows, as pickles. Earlier versions used it."""


def _is_its_error(error: BaseException) -> bool:
    # The engine raises Exception itself. Where Rust panics, as it does at some damaged files, it
    # raises a BaseException whose class cannot be imported.
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


_translate_errors = partial(translate_errors, "qdrant", _is_its_error)


class QdrantFolder:
    """See SearchableDatabase. The collection is opened by the first call that needs it, so that
    reading one that is not there makes nothing."""

    has_hnsw: ClassVar[bool] = False

    def __init__(self, location: str, name: str) -> None:
        """Raises DatabaseError for a folder of an earlier version."""
        self._folder = Path(location)
        if any(self._folder.glob(PICKLES)):
            raise DatabaseError(
                f"qdrant: {location}: holds pickles of an earlier sparseclip, which are not read: "
                "remove it and index again"
            )
        self._path, self._where = self._folder / name, f"name {name}"
        self._shard: EdgeShard | None = None
        self._resources = ExitStack()

    @classmethod
    def open(cls, location: str, options: DatabaseOptions) -> SearchableDatabase:
        """See Database.open. The location is a folder, or the URL of a server."""
        if location.startswith(("http://", "https://")):
            # Imported here because the client takes longer to import than a search in a folder.
            from serving.index.databases._qdrant_server import QdrantServer

            return QdrantServer.open(location, options)
        if re.fullmatch(r"[^/]+:\d+", location):  # HOST:PORT, which nobody means as a folder
            raise DatabaseError(f"qdrant: {location}: an address begins with http:// or https://")
        return cls(location, options.name)

    def prepare(self, origin: Origin, export: str = "") -> None:
        """See Database.prepare."""
        with _translate_errors():
            if not self._path.exists():
                self._create(origin)
        self.origin().refuse_other(origin, self._where)

    def _create(self, origin: Origin) -> None:
        """Creates the whole collection, or nothing, wherever it is interrupted."""
        # The engine's log would only grow. Without it, rows are safe once they are flushed.
        config = EdgeConfig(**_columns(origin), wal_enabled=False)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._refuse_full()
        with staging_directory(self._folder) as staging:
            draft = staging / self._path.name
            EdgeShard.create(str(draft), config).close()
            (draft / ORIGIN).write_text(origin.to_json())
            draft.rename(self._path)

    def origin(self) -> Origin:
        """See Database.origin."""
        if not self._folder.is_dir():
            raise DatabaseError(f"qdrant: {self._folder}: not found")
        if not self._path.is_dir():
            raise DatabaseError(f"{self._where}: there is no such collection")
        with _translate_errors():
            path = self._path / ORIGIN
            text = path.read_text() if path.exists() else None
        return Origin.read(text, self._where)

    def load(self, rows: Sequence[IndexRow]) -> None:
        """See Database.load. Each load is flushed: killed at any time, it leaves whole loads."""
        points = [
            Point(
                key_of(row.id),
                _vector(row.vector),
                {"id": row.id, "source": row.source, STAMP: row.stamp},
            )
            for row in rows
        ]
        self._update(UpdateOperation.upsert_points(points))

    def remove(self, ids: Sequence[str]) -> None:
        """See Database.remove."""
        self._update(UpdateOperation.delete_points([key_of(id) for id in ids]))

    def _update(self, operation: UpdateOperation) -> None:
        shard = self._open_shard()
        with _translate_errors():
            self._refuse_full()
            shard.update(operation)
            shard.flush()

    def finish(self) -> None:
        """See Database.finish. Nothing is left to do: every load is flushed."""

    def count(self) -> int:
        """See SearchableDatabase.count."""
        shard = self._open_shard()
        with _translate_errors():
            return shard.count(CountRequest())

    def stamps(self, ids: Sequence[str]) -> dict[str, str]:
        """See SearchableDatabase.stamps."""
        shard = self._open_shard()
        with _translate_errors():
            keys: list[Any] = [key_of(id) for id in ids]
            points = shard.retrieve(keys, with_payload=["id", STAMP], with_vector=False)
        payloads = [point.payload or {} for point in points]
        return {payload["id"]: payload.get(STAMP, "") for payload in payloads}

    def search(self, query: Vector, top: int) -> list[Hit]:
        """See SearchableDatabase.search. Qdrant's queries take negative weights."""
        [(name, vector)] = _vector(query).items()
        request = QueryRequest(
            limit=top,
            query=Query.Nearest(vector, using=name),
            with_payload=True,
            params=SearchParams(exact=name == DENSE),  # codes always are
        )
        shard = self._open_shard()
        with _translate_errors():
            points = shard.query(request)
        scored = [(point.payload or {}, point.score) for point in points]
        if isinstance(query, Code):
            scored = [(payload, score) for payload, score in scored if score > 0]
        return [Hit(payload["id"], payload["source"], score) for payload, score in scored]

    def close(self) -> None:
        """See Database.close. Lets other processes open the collection."""
        with _translate_errors():
            self._resources.close()

    def _open_shard(self) -> EdgeShard:
        if self._shard is None:
            self.origin()
            with _translate_errors():
                self._lock()
                self._shard = EdgeShard.load(str(self._path))
                self._resources.callback(self._shard.close)
        return self._shard

    def _refuse_full(self) -> None:
        if shutil.disk_usage(self._folder).free < MIN_FREE_BYTES:
            raise DatabaseError(f"qdrant: {self._folder}: less than {MIN_FREE_BYTES >> 20} MB free")

    def _lock(self) -> None:
        """Keeps other processes out, by a lock that ends with this process. The engine itself locks
        its log only, which it does not have here."""
        descriptor = os.open(self._path, os.O_RDONLY)
        self._resources.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatabaseError(f"qdrant: {self._path}: another process has it open") from None


def _columns(origin: Origin) -> dict[str, Any]:
    """What a collection holds of each row."""
    if origin.dense_dim:
        return {"vectors": {DENSE: EdgeVectorParams(origin.dense_dim, Distance.Cosine)}}
    return {"sparse_vectors": {CODE: EdgeSparseVectorParams()}}


def _vector(vector: Vector) -> dict[str, Any]:
    """A row's code or dense vector under its name."""
    if isinstance(vector, Code):
        return {CODE: SparseVector(vector.indices.tolist(), vector.values.tolist())}
    return {DENSE: vector.tolist()}
