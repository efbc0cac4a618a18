"""A database follows the exports that are in it, and keeps the rows of each apart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from serving.cli.main import main
from serving.index.database_address import open_database
from serving.index.databases import DATABASES
from serving.index.databases.base import SearchableDatabase
from serving.index.export_rows import ExportRows
from tests.cases.living_collections import AFTER, BEFORE, COLLECTIONS
from tests.serving.export.command import options, run

pytestmark = pytest.mark.kind("K10")

BULK = {"opensearch", "elasticsearch"}
"""They are files, in which nobody can look up a row."""
NAME = "followed"
"""Of the collection: other tests have theirs in the same PostgreSQL."""

SEARCHABLE = [name for name in DATABASES.names if name not in BULK]


def index(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(main, ["index", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture(scope="module")
def exports(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`a` and its update `a2`, and `b`, another collection with some of the same names."""
    work = tmp_path_factory.mktemp("indexed")
    write = COLLECTIONS["folder"]
    run(*write(work / "in", BEFORE), work / "a", *options(tiny_bundle))
    shutil.copytree(work / "a", work / "a2")
    write(work / "in", AFTER)
    run(work / "in", work / "a2", *options(tiny_bundle), "--update")
    others = {"00": BEFORE["15"], "90": BEFORE["16"]}
    run(*write(work / "other", others), work / "b", *options(tiny_bundle))
    run(work / "other", work / "b-named", *options(tiny_bundle), "--prefix", "b/")
    return work


def held(database: str, export: Path) -> dict[str, str]:
    """The stamps of the rows of an export that a database holds."""
    ids = [row.id for batch in ExportRows.open(str(export)).batches(500) for row in batch]
    with open_database(database, NAME) as collection:
        assert isinstance(collection, SearchableDatabase)
        collection.origin()
        return collection.stamps(ids)


@pytest.mark.parametrize("kind", SEARCHABLE)
def test_a_database_follows_an_update_and_keeps_what_others_wrote(
    kind: str, exports: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    database = f"{kind}:{tmp_path / 'd.db'}"
    if kind == "pgvector":
        database = f"pgvector:{request.getfixturevalue('postgres')}"
    where = [database, "--name", NAME]
    assert "; 19 new, 0 changed, 0 as they were, 0 removed" in index(exports / "a", *where)
    assert "; 0 new, 0 changed, 19 as they were, 0 removed" in index(exports / "a", *where)
    printed = index(exports / "b", *where, code=1)
    assert (
        "; 1 new, 0 changed, 0 as they were, 0 removed, 0 without a concept; it holds 20" in printed
    )
    assert (
        "Error: 1 rows were left out: another export has rows of the same ids in followed, such as "
        "'00.png'. Export with --prefix, or index into another --name\n" in printed
    )
    before = held(database, exports / "b")
    assert "it holds 22" in index(exports / "b-named", *where)
    printed = index(exports / "a2", *where)
    # Of 19 rows two went, one went into quarantine, one came out of it, one came and one changed.
    assert "18 rows of tiny/1 in followed; 2 new, 1 changed, 15 as they were, 3 removed" in printed
    assert "it holds 21" in printed
    assert held(database, exports / "b") == before
    assert len(held(database, exports / "b-named")) == 2
    assert len(held(database, exports / "a2")) == 18
    assert "; 0 new, 0 changed, 18 as they were, 0 removed" in index(exports / "a2", *where)


@pytest.mark.parametrize("kind", sorted(BULK))
def test_bulk_files_delete_what_is_gone_and_hold_one_export(
    kind: str, exports: Path, tmp_path: Path
) -> None:
    database = f"{kind}:{tmp_path / 'bulk'}"
    index(exports / "a", database)
    index(exports / "a2", database)
    lines = (tmp_path / "bulk" / "bulk-000000.ndjson").read_text().splitlines()
    actions = [json.loads(line) for line in lines]
    documents = [action["id"] for action in actions if "id" in action]
    deleted = [action["delete"]["_id"] for action in actions if "delete" in action]
    indexed = [action["index"]["_id"] for action in actions if "index" in action]
    assert len(documents) == len(indexed) == 18
    assert len(deleted) == 3
    assert not set(deleted) & set(indexed)
    printed = index(exports / "b", database, code=1)
    assert "holds another export. Choose a new or an empty folder" in printed
