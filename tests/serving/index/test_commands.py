"""`sparseclip index` and `sparseclip search`, as a person types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from serving.cli.main import main
from tests.serving.export.image_folders import png
from tests.serving.index.conftest import BROKEN, COUNT, Locate

ROWS = COUNT - len(BROKEN)


def run(*arguments: object, code: int = 0) -> str:
    """What a command prints on stdout, or on stderr when it fails."""
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done.stderr if code else done.stdout


def search_hits(*arguments: object) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("search", *arguments, "--json").splitlines()]


@pytest.mark.parametrize("kind", ["qdrant", "milvus", "pgvector"])
def test_an_export_is_indexed_and_searched(
    kind: str, exported: Path, tiny_bundle: Path, locate: Locate, tmp_path: Path
) -> None:
    database = locate(kind, tmp_path)
    for _ in range(2):
        printed = run("index", exported, database, "--name", "typed")
        assert printed.startswith(f"{ROWS} rows of tiny/1 in typed; ")
    (tmp_path / "one.png").write_bytes(png(4))
    where = [database, "--name", "typed", "--bundle", tiny_bundle]
    hits = search_hits(*where, "--image", tmp_path / "one.png", "--top", 3)
    assert len(hits) == 3
    assert hits[0]["id"] == hits[0]["source"] == "1/0004.png"
    assert hits[0]["score"] == pytest.approx(1, abs=1e-4)
    mixed = ["--text", "dog", "--concept", "=red=0.5", "--concept", "#9", "--without", "cat=0.2"]
    hits = search_hits(*where, *mixed)
    assert hits == sorted(hits, key=lambda hit: -hit["score"])
    table = run("search", *where, *mixed)
    assert all(hit["id"] in table for hit in hits)


@pytest.mark.parametrize("kind", ["opensearch", "elasticsearch"])
def test_of_bulk_files_the_query_is_printed(
    kind: str, exported: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    database = f"{kind}:{tmp_path}"
    run("index", exported, database)
    where = [database, "--bundle", tiny_bundle, "--concept", "#3=2", "--top", 4]
    body = json.loads(run("search", *where))
    assert body["size"] == 4
    assert '{"3": 1.0}' in json.dumps(body)
    printed = run("search", *where, "--without", "#4", code=1)
    assert printed == f"Error: {kind}: its queries take no negative weights\n"


def test_an_unfinished_or_altered_export_is_refused(exported: Path, tmp_path: Path) -> None:
    output = shutil.copytree(exported, tmp_path / "export")
    first = sorted((output / "data").iterdir())[0]
    first.write_bytes(first.read_bytes()[:-1] + b"x")
    printed = run("index", output, f"opensearch:{tmp_path / 'out'}", code=1)
    assert "shards missing or altered since they were written: 0;" in printed
    (output / "DONE.json").unlink()
    printed = run("index", output, f"opensearch:{tmp_path / 'out'}", code=1)
    assert printed.startswith("Error: ")
    assert "not finished" in printed
    assert printed.count("\n") == 1


def test_another_model_is_refused(
    exported: Path, other_export: Path, other_bundle: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    database = f"qdrant:{tmp_path / 'qdrant'}"
    run("index", exported, database)
    expected = "Error: name sparseclip: holds codes of tiny/1, not of tiny/2\n"
    assert run("index", other_export, database, code=1) == expected
    options = ["search", database, "--concept", "#1", "--bundle"]
    assert run(*options, other_bundle, code=1) == expected
    assert run(*options, tiny_bundle)


BAD_DATABASES = [
    ("nothing:here", "database: 'nothing' is none of qdrant, milvus, pgvector, opensearch,"),
    ("qdrnt:folder", "database: 'qdrnt' is none of "),
    ("qdrant", "database: qdrant: a location must follow, as in qdrant:..."),
    ("milvus:folder", "milvus: folder: neither an address nor a file ending in .db"),
    ("qdrant:localhost:6333", "qdrant: localhost:6333: an address begins with http://"),
    ("qdrant:http://127.0.0.1:1", "qdrant: "),
    ("milvus:http://127.0.0.1:1", "milvus: "),
    ("pgvector:postgresql://user:secret@127.0.0.1:1/x", "pgvector: connection failed"),
    ("pgvector:no dsn at all", "pgvector: "),
    ("opensearch:http://127.0.0.1:1", "opensearch: http://: not a file system"),
]


@pytest.mark.parametrize(("database", "message"), BAD_DATABASES)
def test_a_database_that_cannot_be_used_is_one_line(
    database: str, message: str, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = run("index", exported, database, code=1)
    assert printed.startswith(f"Error: {message}")
    assert printed.count("\n") == 1
    assert "secret" not in printed


@pytest.mark.parametrize(
    ("database", "message"),
    [
        ("qdrant:gone", "qdrant: gone: not found"),
        ("milvus:gone.db", "milvus: gone.db: not found"),
        ("opensearch:gone", "opensearch:gone: no index.json"),
    ],
)
def test_searching_a_mistyped_path_leaves_nothing(
    database: str,
    message: str,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = run("search", database, "--bundle", tiny_bundle, "--text", "dog", code=1)
    assert printed == f"Error: {message}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def queried(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database that holds the export."""
    database = f"qdrant:{tmp_path_factory.mktemp('queried') / 'qdrant'}"
    run("index", exported, database)
    return database


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--concept", "=no such"], 1, "concept 'no such': "),
        (["--concept", "#999"], 1, "concept 999: "),
        (["--concept", "red=much"], 2, "'much': not a number"),
        (["--concept", "red=0"], 1, "text 'red': its weight must be a number other than 0"),
        (["--image", "gone.png"], 1, "image gone.png: "),
        (["--without", "dog"], 2, "name a --text, --image or --concept to look for"),
        (["--text", "dog", "--name", "Other"], 1, "name: 'Other': small letters"),
        (["--text", "dog", "--name", "other"], 1, "name other: there is no such collection"),
    ],
)
def test_a_query_that_cannot_be_answered_is_named(
    options: list[str], code: int, message: str, queried: str, tiny_bundle: Path
) -> None:
    printed = run("search", queried, "--bundle", tiny_bundle, *options, code=code)
    assert message in printed.splitlines()[-1]


def test_hnsw_of_a_database_without_it_is_refused(exported: Path, tmp_path: Path) -> None:
    printed = run("index", exported, f"milvus:{tmp_path / 'm.db'}", "--hnsw", code=1)
    assert printed == "Error: hnsw: milvus does not have it\n"
