"""Qdrant's engine inside this process, its files in a folder: no server. Exact search.

FOLDER/NAME is a collection. One process at a time has it open, to load or to search: the engine
rewrites some of its files even then.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bundle.atomic import staging_directory
from serving.index.databases.base import Code, Hit, Origin, Row, SinkError, key_of

if TYPE_CHECKING:
    from qdrant_edge import EdgeShard, SparseVector

VECTOR = "code"
ORIGIN = "sparseclip.json"
"""Beside the engine's files."""
SPARE = 64 * 2**20
"""Bytes of the disk that have to be free, far more than a load takes: where there are none left,
the engine, which writes to holes in mapped files, ends the process without a word."""
PICKLED = "collection/*/storage.sqlite"
"""Where qdrant-client's local mode, which once was used for folders, has its rows, as pickles."""


class QdrantFolder:
    """A collection of Qdrant that this process holds alone."""

    def __init__(self, location: str, name: str) -> None:
        """Opens nothing yet, so that reading what is not there makes nothing. Raises SinkError."""
        if re.fullmatch(r"[^/]+:\d+", location):  # not meant as a folder
            raise SinkError(f"qdrant: {location}: an address begins with http:// or https://")
        self._folder = Path(location)
        if any(self._folder.glob(PICKLED)):
            raise SinkError(
                f"qdrant: {location}: holds pickles of an earlier sparseclip, which are not read: "
                "remove it and index again"
            )
        self._path, self._where = self._folder / name, f"name {name}"
        self._shard: EdgeShard | None = None
        self._open = ExitStack()

    def prepare(self, origin: Origin) -> None:
        """Makes the collection, or makes sure that the one there is of the same model."""
        with _told():
            if not self._path.exists():
                self._make(origin)
        self.origin().refuse_other(origin, self._where)

    def _make(self, origin: Origin) -> None:
        """All of it or nothing, wherever it is interrupted."""
        from qdrant_edge import EdgeConfig, EdgeShard, EdgeSparseVectorParams

        # Without its log, which only grows, rows are safe once they are flushed.
        config = EdgeConfig(sparse_vectors={VECTOR: EdgeSparseVectorParams()}, wal_enabled=False)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._refuse_full()
        with staging_directory(self._folder) as staging:
            made = staging / self._path.name
            EdgeShard.create(str(made), config).close()
            (made / ORIGIN).write_text(origin.to_json())
            made.rename(self._path)

    def origin(self) -> Origin:
        """The model whose codes it holds."""
        if not self._folder.is_dir():
            raise SinkError(f"qdrant: {self._folder}: not found")
        if not self._path.is_dir():
            raise SinkError(f"{self._where}: there is no such collection")
        with _told():
            path = self._path / ORIGIN
            said = path.read_text() if path.exists() else None
        return Origin.read(said, self._where)

    def load(self, rows: Sequence[Row]) -> None:
        """Puts rows in, onto the disk: killed at any time, it leaves whole loads only."""
        from qdrant_edge import Point, UpdateOperation

        points = [
            Point(key_of(row.id), {VECTOR: _vector(row.code)}, {"id": row.id, "source": row.source})
            for row in rows
        ]
        shard = self._opened()
        with _told():
            self._refuse_full()
            shard.update(UpdateOperation.upsert_points(points))
            shard.flush()

    def finish(self) -> None:
        """Nothing is left to do: every load waits until its rows are there."""

    def count(self) -> int:
        """Rows that it holds."""
        from qdrant_edge import CountRequest

        shard = self._opened()
        with _told():
            return shard.count(CountRequest())

    def search(self, query: Code, top: int) -> list[Hit]:
        """The nearest rows. Negative weights are part of Qdrant's queries."""
        from qdrant_edge import Query, QueryRequest

        nearest = Query.Nearest(_vector(query), using=VECTOR)
        shard = self._opened()
        with _told():
            points = shard.query(QueryRequest(limit=top, query=nearest, with_payload=True))
        found = [(point.payload or {}, point.score) for point in points if point.score > 0]
        return [Hit(payload["id"], payload["source"], score) for payload, score in found]

    def close(self) -> None:
        """Lets go of the collection."""
        with _told():
            self._open.close()

    def _opened(self) -> EdgeShard:
        from qdrant_edge import EdgeShard

        if self._shard is None:
            self.origin()
            with _told():
                self._hold()
                self._shard = EdgeShard.load(str(self._path))
                self._open.callback(self._shard.close)
        return self._shard

    def _refuse_full(self) -> None:
        if shutil.disk_usage(self._folder).free < SPARE:
            raise SinkError(f"qdrant: {self._folder}: less than {SPARE >> 20} MB free")

    def _hold(self) -> None:
        """Keeps others out, by a lock that ends with this process; without its log the engine has
        none."""
        held = os.open(self._path, os.O_RDONLY)
        self._open.callback(os.close, held)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SinkError(f"qdrant: {self._path}: another process has it open") from None


def _vector(code: Code) -> SparseVector:
    from qdrant_edge import SparseVector

    return SparseVector(code.indices.tolist(), code.values.tolist())


@contextmanager
def _told() -> Iterator[None]:
    """The engine's errors as one line. It raises Exception itself, and where Rust panics, as it
    does at some damaged files, what is not even an Exception."""
    try:
        yield
    except SinkError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        line = str(error).strip().partition("\n")[0]
        raise SinkError(f"qdrant: {line or type(error).__name__}") from None
