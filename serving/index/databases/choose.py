"""The database that a person names: `qdrant:PATH`, `milvus:FILE.db`, `pgvector:DSN` and so on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from serving.index.databases.base import Database, SinkError
from serving.index.databases.bulk_files import Bulk
from serving.index.databases.milvus_database import Milvus
from serving.index.databases.pgvector_database import Pgvector
from serving.index.databases.qdrant_embedded import QdrantFolder
from serving.index.databases.qdrant_server import Qdrant

KINDS = ("qdrant", "milvus", "pgvector", "opensearch", "elasticsearch")

_NAME = re.compile(r"[a-z][a-z0-9_]{0,55}")


@contextmanager
def opened(
    location: str, name: str, *, token: str | None = None, hnsw: bool = False
) -> Iterator[Database | Bulk]:
    """A collection of a database, closed at the end of the block. Raises SinkError."""
    kind, _, rest = location.partition(":")
    if kind not in KINDS or not rest:
        known = ", ".join(f"{kind}:..." for kind in KINDS)
        raise SinkError(f"database: {kind!r} is none of {known}")
    if not _NAME.fullmatch(name):
        raise SinkError(f"name: {name!r}: small letters, digits and _, at most 56, a letter first")
    if hnsw and kind != "pgvector":
        raise SinkError("hnsw: only pgvector has it")
    sink = _open(kind, rest, name, token, hnsw)
    try:
        yield sink
    finally:
        sink.close()


def _open(kind: str, rest: str, name: str, token: str | None, hnsw: bool) -> Database | Bulk:
    match kind:
        case "qdrant" if rest.startswith(("http://", "https://")):
            return Qdrant(rest, name, token)
        case "qdrant":
            return QdrantFolder(rest, name)
        case "milvus":
            return Milvus(rest, name, token)
        case "pgvector":
            return Pgvector(rest, name, hnsw)
        case "opensearch":
            return Bulk("opensearch", rest, name)
        case _:
            return Bulk("elasticsearch", rest, name)
