"""Real databases: the nearest rows, all of them, by every kind of query."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from serving.index.database_address import open_database
from serving.index.databases.base import (
    Code,
    DatabaseError,
    Origin,
    SearchableDatabase,
)
from serving.index.export_rows import ExportRows
from serving.index.query import QueryTerm, make_query
from sparseclip import Client
from tests.serving.export.image_folders import png
from tests.serving.index.conftest import Collection, Locate, load

KINDS = ("qdrant", "milvus", "pgvector")
FILES = ("qdrant", "milvus")
"""Those that need no server."""
SERVER = "qdrant server"
"""No server, but its own client playing one in memory."""
TOP = 10

PARTS = {
    "text": [QueryTerm(text="a red circle")],
    "image": [QueryTerm(image=png(7))],
    "concepts": [QueryTerm(concept=1), QueryTerm(concept=3, weight=0.5), QueryTerm(concept=100)],
    "without a concept": [QueryTerm(image=png(8)), QueryTerm(concept=1, weight=-0.5)],
    "without a phrase": [QueryTerm(image=png(9)), QueryTerm(text="dog", weight=-0.7)],
}


@pytest.fixture(scope="module", params=[*KINDS, SERVER])
def database(
    request: pytest.FixtureRequest,
    exported: Path,
    locate: Locate,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SearchableDatabase]:
    """Each, with the export in it."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            if request.param == SERVER:
                location = in_memory(patch)
            else:
                location = locate(request.param, tmp_path_factory.mktemp("database"))
            database = stack.enter_context(open_database(location, "rows"))
        load(database, exported)
        yield database


def in_memory(patch: pytest.MonkeyPatch) -> str:
    """Where a Qdrant of this process is, instead of a server."""
    from serving.index.databases import _qdrant_server

    client = _qdrant_server.QdrantClient(":memory:")
    patch.setattr(client, "close", lambda: None)  # what it holds would be gone
    patch.setattr(_qdrant_server, "QdrantClient", lambda **_: client)
    return "qdrant:http://memory"


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_the_nearest_rows_are_found(
    parts: list[QueryTerm], database: SearchableDatabase, client: Client, collection: Collection
) -> None:
    query = make_query(client, parts).vector
    hits = database.search(query, TOP)
    assert len(hits) > 2
    hit_scores = [hit.score for hit in hits]
    np.testing.assert_allclose(hit_scores, collection.best(query, TOP), atol=1e-5)
    scores = collection.scores(query)
    sources = {row.id: row.source for row in collection.rows}
    for hit in hits:
        assert hit.score == pytest.approx(scores[hit.id], abs=1e-5)
        assert hit.source == sources[hit.id]


def test_a_row_is_nearest_to_itself(database: SearchableDatabase, collection: Collection) -> None:
    for row in collection.rows[::9]:
        [hit] = database.search(row.vector, 1)
        assert hit.score == pytest.approx(1, abs=1e-5)


def test_loading_again_leaves_the_same_rows(
    database: SearchableDatabase, exported: Path, collection: Collection
) -> None:
    query = collection.rows[4].vector
    before = database.search(query, TOP)
    count = database.count()
    load(database, exported, size=11)
    assert database.count() == count == sum(len(row.vector.indices) > 0 for row in collection.rows)
    after = database.search(query, TOP)
    assert [hit.id for hit in after] == [hit.id for hit in before]


def test_a_row_takes_the_place_of_the_one_with_its_id(
    database: SearchableDatabase, exported: Path, collection: Collection
) -> None:
    first, second = collection.rows[:2]
    database.load([first._replace(source="moved", vector=second.vector)])
    hits = database.search(second.vector, 2)
    assert {(hit.id, hit.source) for hit in hits} >= {(first.id, "moved")}
    load(database, exported)
    [hit] = [hit for hit in database.search(first.vector, TOP) if hit.id == first.id]
    assert hit.source == first.source


def test_codes_of_another_model_are_refused(database: SearchableDatabase, exported: Path) -> None:
    origin = ExportRows.open(str(exported)).origin
    assert database.origin() == origin
    with pytest.raises(DatabaseError, match="name rows: holds codes of tiny/1, not of tiny/9"):
        database.prepare(Origin(model="tiny/9", bundle=origin.bundle))
    with pytest.raises(DatabaseError, match="name rows: holds codes of another tiny/1"):
        database.prepare(Origin(model="tiny/1", bundle="0" * 64))
    assert database.origin() == origin


@pytest.mark.parametrize("kind", KINDS)
def test_a_collection_that_is_not_there_is_named(
    kind: str, locate: Locate, exported: Path, tmp_path: Path
) -> None:
    location = locate(kind, tmp_path)
    with open_database(location, "there") as database:
        database.prepare(ExportRows.open(str(exported)).origin)
    before = sorted(tmp_path.rglob("*"))
    with open_database(location, "gone") as database, pytest.raises(DatabaseError) as caught:
        database.origin()
    assert str(caught.value).startswith("name gone: there is no such ")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", FILES)
def test_reading_makes_nothing(
    kind: str, locate: Locate, collection: Collection, tmp_path: Path
) -> None:
    location = locate(kind, tmp_path)
    with open_database(location, "rows") as database:
        for read in (
            database.origin,
            database.count,
            lambda: database.search(collection.rows[0].vector, 1),
        ):
            with pytest.raises(DatabaseError) as caught:
                read()
            assert str(caught.value) == f"{location.replace(':', ': ', 1)}: not found"
    assert list(tmp_path.iterdir()) == []


def test_reading_a_base_without_pgvector_leaves_it_without(postgres: str, exported: Path) -> None:
    import psycopg

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE bare")
    bare = postgres.replace("/postgres?", "/bare?")
    installed = "SELECT count(*) FROM pg_extension WHERE extname = 'vector'"
    with open_database(f"pgvector:{bare}", "rows") as database, psycopg.connect(bare) as connection:
        with pytest.raises(DatabaseError, match="name rows: there is no such table"):
            database.origin()
        assert connection.execute(installed).fetchone() == (0,)
    with open_database(f"pgvector:{bare}", "rows") as database:
        load(database, exported)
        assert database.count() > 0


def test_a_table_of_someone_else_is_left_alone(postgres: str, exported: Path) -> None:
    import psycopg

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE TABLE theirs (id text)")
    with (
        open_database(f"pgvector:{postgres}", "theirs") as database,
        pytest.raises(DatabaseError) as caught,
    ):
        database.prepare(ExportRows.open(str(exported)).origin)
    assert str(caught.value) == "name theirs: is there, but not from `sparseclip index`"


def test_a_file_that_ends_and_is_opened_again_holds_all(
    exported: Path, collection: Collection, locate: Locate, tmp_path: Path
) -> None:
    for kind in FILES:
        with open_database(locate(kind, tmp_path), "rows") as database:
            load(database, exported)
        with open_database(locate(kind, tmp_path), "rows") as database:
            assert database.origin() == ExportRows.open(str(exported)).origin
            [hit] = database.search(collection.rows[5].vector, 1)
            assert hit.score == pytest.approx(1, abs=1e-5)


def test_an_hnsw_index_is_built_and_takes_no_wider_rows(
    postgres: str, exported: Path, collection: Collection
) -> None:
    import psycopg

    with open_database(f"pgvector:{postgres}", "quick", hnsw=True) as database:
        load(database, exported)
        query = collection.rows[4].vector
        hit_scores = {hit.id for hit in database.search(query, TOP)}
        expected = sorted(collection.scores(query).items(), key=lambda item: -item[1])[:TOP]
        assert len(hit_scores & {row for row, _ in expected}) >= 9
        wide = Code(np.arange(1001, dtype=np.uint32), np.full(1001, 0.03, np.float32))
        with pytest.raises(DatabaseError, match="pgvector: sparsevec cannot have more than 1000"):
            database.load([collection.rows[0]._replace(vector=wide)])
    with psycopg.connect(postgres) as connection:
        indexes = connection.execute("SELECT indexdef FROM pg_indexes WHERE tablename = 'quick'")
        assert any("USING hnsw" in definition for [definition] in indexes)
