"""PostgreSQL with pgvector 0.7 or later: a table with a `sparsevec` column. Exact search, or HNSW.

pgvector stores at most 16,000 concepts of a row, and puts at most 1,000 into an HNSW index.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from serving.index.databases.base import Code, Hit, Origin, Row, SinkError

WIDTH = 1_000_000_000
"""Dimensions of the column, pgvector's limit: rows cost what their concepts cost whatever it is."""
EXPLORED = 100
"""Rows that a search through HNSW keeps in view. With more, PostgreSQL's planner leaves the index
aside in larger tables."""


class Pgvector:
    """A table of PostgreSQL."""

    def __init__(self, dsn: str, name: str, hnsw: bool) -> None:
        """Connects. With `hnsw`, `finish` builds that index. Raises SinkError."""
        import psycopg
        from psycopg import sql

        self._name, self._hnsw = name, hnsw
        self._where = f"name {name}"
        self._table = sql.Identifier(name)
        self._index = sql.Identifier(f"{name}_code")
        with _told():
            self._connection = psycopg.connect(dsn, autocommit=True, connect_timeout=10)
            self._extended = self._extend()

    def prepare(self, origin: Origin) -> None:
        """Makes the table, or makes sure that the one there is of the same model."""
        from psycopg import sql

        with _told():
            if not self._extended:
                self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
                self._extended = self._extend()
        with _told(), self._connection.transaction():
            if not self._there():
                create = "CREATE TABLE {} (id text PRIMARY KEY, source text NOT NULL, code {})"
                column = sql.SQL(f"sparsevec({WIDTH}) NOT NULL")
                self._connection.execute(sql.SQL(create).format(self._table, column))
                comment = sql.SQL("COMMENT ON TABLE {} IS {}")
                said = sql.Literal(origin.to_json())
                self._connection.execute(comment.format(self._table, said))
        self.origin().refuse_other(origin, self._where)

    def origin(self) -> Origin:
        """The model whose codes it holds."""
        with _told():
            if not self._there():
                raise SinkError(f"{self._where}: there is no such table")
            comment = "SELECT obj_description(to_regclass(%s), 'pg_class')"
            [said] = self._one(comment, self._name)
        return Origin.read(said, self._where)

    def load(self, rows: Sequence[Row]) -> None:
        """Puts rows in, all of them or none."""
        from psycopg import sql

        insert = sql.SQL(
            "INSERT INTO {} (id, source, code) VALUES (%s, %s, %s) ON CONFLICT (id) "
            "DO UPDATE SET source = EXCLUDED.source, code = EXCLUDED.code"
        ).format(self._table)
        data = [(row.id, row.source, _vector(row.code)) for row in rows]
        with _told(), self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(insert, data)

    def finish(self) -> None:
        """Builds the index, where one was asked for, and lets the planner know the table."""
        from psycopg import sql

        with _told():
            if self._hnsw:
                create = "CREATE INDEX IF NOT EXISTS {} ON {} USING hnsw (code sparsevec_ip_ops)"
                self._connection.execute(sql.SQL(create).format(self._index, self._table))
            self._connection.execute(sql.SQL("ANALYZE {}").format(self._table))

    def count(self) -> int:
        """Rows that it holds."""
        from psycopg import sql

        with _told():
            return int(self._one(sql.SQL("SELECT count(*) FROM {}").format(self._table))[0])

    def search(self, query: Code, top: int) -> list[Hit]:
        """The nearest rows. Negative weights are part of pgvector's queries."""
        from psycopg import sql

        # <#> is the negative inner product, as PostgreSQL walks an index in ascending order only.
        select = sql.SQL(
            "SELECT id, source, code <#> %s AS distance FROM {} ORDER BY distance LIMIT %s"
        ).format(self._table)
        with _told():
            self._connection.execute(f"SET hnsw.ef_search = {max(top, EXPLORED)}")
            found = self._connection.execute(select, (_vector(query), top)).fetchall()
        return [Hit(row, source, -distance) for row, source, distance in found if distance < 0]

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    def _extend(self) -> bool:
        """Lets the connection know pgvector's types; False where the base has no pgvector yet."""
        from pgvector.psycopg import register_vector

        known = "SELECT 1 FROM pg_extension WHERE extname = 'vector'"
        if self._connection.execute(known).fetchone() is None:
            return False
        register_vector(self._connection)
        return True

    def _there(self) -> bool:
        return bool(self._one("SELECT to_regclass(%s) IS NOT NULL", self._name)[0])

    def _one(self, statement: Any, *values: str) -> Any:
        return self._connection.execute(statement, values).fetchone()


def _vector(code: Code) -> Any:
    from pgvector import SparseVector

    return SparseVector(code.pairs(), WIDTH)


@contextmanager
def _told() -> Iterator[None]:
    """PostgreSQL's errors as one line, without the connection string."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        line = str(error).strip().partition("\n")[0]
        raise SinkError(f"pgvector: {line or type(error).__name__}") from None
