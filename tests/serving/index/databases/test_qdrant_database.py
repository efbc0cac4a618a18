"""Qdrant's engine in a folder: one process at a time, whole loads, clear errors."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serving.index.database_address import open_database
from serving.index.databases.base import DatabaseError
from tests.serving.index.conftest import Collection, load


def test_a_folder_of_pickles_is_refused(exported: Path, tmp_path: Path) -> None:
    from qdrant_client import QdrantClient

    client = QdrantClient(path=str(tmp_path))
    client.create_collection("rows", vectors_config={})
    client.close()
    expected = f"qdrant: {tmp_path}: holds pickles of an earlier sparseclip, which are not read"
    for name in ("rows", "other"):
        with pytest.raises(DatabaseError) as caught, open_database(f"qdrant:{tmp_path}", name):
            pass
        assert str(caught.value) == f"{expected}: remove it and index again"


def test_a_folder_is_open_once_and_holds_many_collections(exported: Path, tmp_path: Path) -> None:
    location = f"qdrant:{tmp_path}"
    with open_database(location, "first") as first, open_database(location, "second") as second:
        load(first, exported)
        load(second, exported)
        assert first.count() == second.count()
        with open_database(location, "first") as again, pytest.raises(DatabaseError) as caught:
            again.count()
    assert str(caught.value) == f"qdrant: {tmp_path / 'first'}: another process has it open"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_what_the_engine_of_a_folder_cannot_do_is_one_line(
    exported: Path, collection: Collection, tmp_path: Path
) -> None:
    location = f"qdrant:{tmp_path}"
    with open_database(location, "rows") as database:
        load(database, exported)
    [path] = tmp_path.rglob("segment.json")
    kept = path.read_bytes()
    path.write_text("{")
    with open_database(location, "rows") as database:
        with pytest.raises(DatabaseError, match=r"qdrant: .*segment") as caught:
            database.count()
        assert "\n" not in str(caught.value)
    path.write_bytes(kept)
    row = collection.rows[0]
    broken = row._replace(vector=row.vector._replace(values=row.vector.values[:1]))
    panic = pytest.raises(DatabaseError, match="qdrant: index out of bounds")  # of Rust
    with open_database(location, "rows") as database, panic:
        database.load([broken])


def test_a_full_disk_is_told(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_database(f"qdrant:{tmp_path}", "rows") as database:
        load(database, exported)
        free = shutil.disk_usage(tmp_path)._replace(free=2**20)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
        with pytest.raises(DatabaseError, match="less than 64 MB free"):
            load(database, exported)
        assert database.count() > 0


LOADING = """
import sys
from serving.index.database_address import open_database
from serving.index.export_rows import ExportRows

export, location = sys.argv[1:]
rows = ExportRows.open(export)
with open_database(location, "rows") as database:
    database.prepare(rows.origin)
    batch = next(rows.batches(8))
    for number in range(1_000_000):
        database.load([row._replace(id=f"{number}/{row.id}") for row in batch])
        print(number + 1, flush=True)
"""


def test_a_load_that_is_killed_leaves_what_it_loaded(
    exported: Path, collection: Collection, tmp_path: Path
) -> None:
    location = f"qdrant:{tmp_path}"
    code = collection.rows[0].vector
    for loads in (1, 40):
        command = [sys.executable, "-c", LOADING, str(exported), location]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            while int(process.stdout.readline()) < loads:
                pass
            process.kill()
        with open_database(location, "rows") as database:
            count = database.count()
            assert count >= loads * 8
            assert count % 8 == 0
            hits = database.search(code, count)
            assert sum(hit.score > 0.9999 for hit in hits) == count // 8
