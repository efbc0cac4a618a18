"""The database that an address names, such as `qdrant:FOLDER`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from serving.index.databases import DATABASES
from serving.index.databases.base import Database, DatabaseError, DatabaseOptions

_COLLECTION_NAME = re.compile(r"[a-z][a-z0-9_]{0,55}")


@contextmanager
def open_database(
    address: str, name: str, *, token: str | None = None, hnsw: bool = False
) -> Iterator[Database]:
    """A collection at `DATABASE:LOCATION`, closed at the end of the block. Raises DatabaseError, or
    PluginError for a database that is not in DATABASES or not installed."""
    kind, _, location = address.partition(":")
    plugin = DATABASES.load(kind)
    if not location:
        raise DatabaseError(f"database: {kind}: a location must follow, as in {kind}:...")
    if not _COLLECTION_NAME.fullmatch(name):
        raise DatabaseError(
            f"name: {name!r}: small letters, digits and _, at most 56, a letter first"
        )
    if hnsw and not plugin.has_hnsw:
        raise DatabaseError(f"hnsw: {kind} does not have it")
    database = plugin.open(location, DatabaseOptions(name=name, token=token, hnsw=hnsw))
    try:
        yield database
    finally:
        database.close()
