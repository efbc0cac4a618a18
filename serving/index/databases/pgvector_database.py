"""PostgreSQL with pgvector 0.7 or later: a table with a `sparsevec` column, or a `vector` column
for dense vectors. Exact search, or HNSW.

pgvector stores at most 16,000 concepts of a row, and puts at most 1,000 into an HNSW index. It
stores at most 16,000 values of a dense vector, and indexes at most 2,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Self

import psycopg
from pgvector import SparseVector
from pgvector import Vector as DenseVector
from pgvector.psycopg import register_vector
from psycopg import sql

from serving.index.databases.base import (
    Code,
    DatabaseError,
    DatabaseOptions,
    Hit,
    IndexRow,
    Origin,
    Vector,
    translate_errors,
)

WIDTH = 1_000_000_000
"""Dimensions of the column: pgvector's limit. A row costs what its concepts cost, however wide the
column is, so one width fits every model."""
HNSW_CANDIDATES = 100
"""Rows that a search through HNSW keeps as candidates (`hnsw.ef_search`). With more, PostgreSQL's
planner does not use the index of a larger table."""

# The first line of psycopg's messages holds no connection string.
_translate_errors = partial(
    translate_errors, "pgvector", lambda error: isinstance(error, psycopg.Error)
)


class PgvectorDatabase:
    """See SearchableDatabase: a table of PostgreSQL."""

    has_hnsw: ClassVar[bool] = True

    def __init__(self, dsn: str, name: str, hnsw: bool) -> None:
        """Connects. With `hnsw`, `finish` builds that index. Raises DatabaseError."""
        self._name, self._hnsw = name, hnsw
        self._where = f"name {name}"
        self._table = sql.Identifier(name)
        self._index = sql.Identifier(f"{name}_code")
        with _translate_errors():
            self._connection = psycopg.connect(dsn, autocommit=True, connect_timeout=10)
            self._has_pgvector = self._register_types()

    @classmethod
    def open(cls, location: str, options: DatabaseOptions) -> Self:
        """See Database.open. The location is a connection string of libpq."""
        return cls(location, options.name, options.hnsw)

    def prepare(self, origin: Origin, export: str = "") -> None:
        """See Database.prepare."""
        with _translate_errors():
            if not self._has_pgvector:
                self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
                self._has_pgvector = self._register_types()
        with _translate_errors(), self._connection.transaction():
            if not self._table_exists():
                create = "CREATE TABLE {} (id text PRIMARY KEY, source text NOT NULL, {} NOT NULL)"
                dense, code = f"dense vector({origin.dense_dim})", f"code sparsevec({WIDTH})"
                column = sql.SQL(dense if origin.dense_dim else code)
                self._connection.execute(sql.SQL(create).format(self._table, column))
                comment = sql.SQL("COMMENT ON TABLE {} IS {}")
                text = sql.Literal(origin.to_json())
                self._connection.execute(comment.format(self._table, text))
        self.origin().refuse_other(origin, self._where)
        with _translate_errors():  # an earlier version made tables without it
            add = "ALTER TABLE {} ADD COLUMN IF NOT EXISTS stamp text NOT NULL DEFAULT ''"
            self._connection.execute(sql.SQL(add).format(self._table))

    def origin(self) -> Origin:
        """See Database.origin."""
        with _translate_errors():
            if not self._table_exists():
                raise DatabaseError(f"{self._where}: there is no such table")
            comment = "SELECT obj_description(to_regclass(%s), 'pg_class')"
            [text] = self._one(comment, self._name)
        return Origin.read(text, self._where)

    def load(self, rows: Sequence[IndexRow]) -> None:
        """See Database.load. All rows go in, or none."""
        if not rows:
            return
        column, _ = _vector(rows[0].vector)
        insert = sql.SQL(
            "INSERT INTO {table} (id, source, {column}, stamp) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT (id) DO UPDATE SET source = EXCLUDED.source, "
            "{column} = EXCLUDED.{column}, stamp = EXCLUDED.stamp"
        ).format(table=self._table, column=sql.Identifier(column))
        data = [(row.id, row.source, _vector(row.vector)[1], row.stamp) for row in rows]
        with (
            _translate_errors(),
            self._connection.transaction(),
            self._connection.cursor() as cursor,
        ):
            cursor.executemany(insert, data)

    def remove(self, ids: Sequence[str]) -> None:
        """See Database.remove."""
        with _translate_errors():
            delete = sql.SQL("DELETE FROM {} WHERE id = ANY(%s)").format(self._table)
            self._connection.execute(delete, (list(ids),))

    def finish(self) -> None:
        """See Database.finish. Builds the HNSW index if it was asked for, and collects the
        statistics by which PostgreSQL's planner decides to use it."""
        with _translate_errors():
            if self._hnsw:
                is_dense = self.origin().dense_dim > 0
                what = "dense vector_cosine_ops" if is_dense else "code sparsevec_ip_ops"
                create = f"CREATE INDEX IF NOT EXISTS {{}} ON {{}} USING hnsw ({what})"
                self._connection.execute(sql.SQL(create).format(self._index, self._table))
            self._connection.execute(sql.SQL("ANALYZE {}").format(self._table))

    def count(self) -> int:
        """See SearchableDatabase.count."""
        with _translate_errors():
            return int(self._one(sql.SQL("SELECT count(*) FROM {}").format(self._table))[0])

    def stamps(self, ids: Sequence[str]) -> dict[str, str]:
        """See SearchableDatabase.stamps."""
        select = sql.SQL("SELECT id, stamp FROM {} WHERE id = ANY(%s)").format(self._table)
        with _translate_errors():
            return dict(self._connection.execute(select, (list(ids),)).fetchall())

    def search(self, query: Vector, top: int) -> list[Hit]:
        """See SearchableDatabase.search. pgvector's queries take negative weights."""
        column, vector = _vector(query)
        # PostgreSQL walks an index in ascending order only: <#> is the negative inner product, and
        # <=> is 1 - cosine.
        operator = "<#>" if isinstance(query, Code) else "<=>"
        select = sql.SQL(
            f"SELECT id, source, {column} {operator} %s AS distance FROM {{}} "
            "ORDER BY distance LIMIT %s"
        ).format(self._table)
        with _translate_errors():
            self._connection.execute(f"SET hnsw.ef_search = {max(top, HNSW_CANDIDATES)}")
            rows = self._connection.execute(select, (vector, top)).fetchall()
        if not isinstance(query, Code):
            return [Hit(id, source, 1 - distance) for id, source, distance in rows]
        return [Hit(id, source, -distance) for id, source, distance in rows if distance < 0]

    def close(self) -> None:
        """See Database.close."""
        self._connection.close()

    def _register_types(self) -> bool:
        """Makes pgvector's types known to the connection; False where the database has no pgvector
        yet. Only `prepare` installs it, because a search must change nothing."""
        installed = "SELECT 1 FROM pg_extension WHERE extname = 'vector'"
        if self._connection.execute(installed).fetchone() is None:
            return False
        register_vector(self._connection)
        return True

    def _table_exists(self) -> bool:
        return bool(self._one("SELECT to_regclass(%s) IS NOT NULL", self._name)[0])

    def _one(self, statement: Any, *values: str) -> Any:
        return self._connection.execute(statement, values).fetchone()


def _vector(vector: Vector) -> tuple[str, Any]:
    """The column of a row's code or dense vector, and its value."""
    if isinstance(vector, Code):
        return "code", SparseVector(vector.pairs(), WIDTH)
    return "dense", DenseVector(vector)
