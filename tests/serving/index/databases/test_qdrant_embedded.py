"""Qdrant's engine in a folder: one process at a time, whole loads, clear errors."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serving.index.databases.base import SinkError
from serving.index.databases.bulk_files import Bulk
from serving.index.databases.choose import opened
from tests.serving.index.conftest import Collection, load


def test_a_folder_of_pickles_is_refused(exported: Path, tmp_path: Path) -> None:
    from qdrant_client import QdrantClient

    client = QdrantClient(path=str(tmp_path))
    client.create_collection("rows", vectors_config={})
    client.close()
    expected = f"qdrant: {tmp_path}: holds pickles of an earlier sparseclip, which are not read"
    for name in ("rows", "other"):
        with pytest.raises(SinkError) as told, opened(f"qdrant:{tmp_path}", name):
            pass
        assert str(told.value) == f"{expected}: remove it and index again"


def test_a_folder_is_open_once_and_holds_many_collections(exported: Path, tmp_path: Path) -> None:
    location = f"qdrant:{tmp_path}"
    with opened(location, "first") as first, opened(location, "second") as second:
        assert not isinstance(first, Bulk)
        assert not isinstance(second, Bulk)
        load(first, exported)
        load(second, exported)
        assert first.count() == second.count()
        with opened(location, "first") as again:
            assert not isinstance(again, Bulk)
            with pytest.raises(SinkError) as told:
                again.count()
    assert str(told.value) == f"qdrant: {tmp_path / 'first'}: another process has it open"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_what_the_engine_of_a_folder_cannot_do_is_one_line(
    exported: Path, collection: Collection, tmp_path: Path
) -> None:
    location = f"qdrant:{tmp_path}"
    with opened(location, "rows") as sink:
        assert not isinstance(sink, Bulk)
        load(sink, exported)
    [path] = tmp_path.rglob("segment.json")
    kept = path.read_bytes()
    path.write_text("{")
    with opened(location, "rows") as sink:
        assert not isinstance(sink, Bulk)
        with pytest.raises(SinkError, match=r"qdrant: .*segment") as told:
            sink.count()
        assert "\n" not in str(told.value)
    path.write_bytes(kept)
    row = collection.rows[0]
    broken = row._replace(code=row.code._replace(values=row.code.values[:1]))
    with opened(location, "rows") as sink:
        assert not isinstance(sink, Bulk)
        with pytest.raises(SinkError, match="qdrant: index out of bounds"):  # Rust panics
            sink.load([broken])


def test_a_full_disk_is_told(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(f"qdrant:{tmp_path}", "rows") as sink:
        assert not isinstance(sink, Bulk)
        load(sink, exported)
        free = shutil.disk_usage(tmp_path)._replace(free=2**20)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
        with pytest.raises(SinkError, match="less than 64 MB free"):
            load(sink, exported)
        assert sink.count() > 0


LOADING = """
import sys
from serving.index.databases.choose import opened
from serving.index.export_rows import Rows

export, location = sys.argv[1:]
rows = Rows.open(export)
with opened(location, "rows") as sink:
    sink.prepare(rows.origin)
    batch = next(rows.batches(8))
    for number in range(1_000_000):
        sink.load([row._replace(id=f"{number}/{row.id}") for row in batch])
        print(number + 1, flush=True)
"""


def test_a_load_that_is_killed_leaves_what_it_loaded(
    exported: Path, collection: Collection, tmp_path: Path
) -> None:
    location = f"qdrant:{tmp_path}"
    code = collection.rows[0].code
    for loads in (1, 40):
        command = [sys.executable, "-c", LOADING, str(exported), location]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            while int(process.stdout.readline()) < loads:
                pass
            process.kill()
        with opened(location, "rows") as sink:
            assert not isinstance(sink, Bulk)
            count = sink.count()
            assert count >= loads * 8
            assert count % 8 == 0
            hits = sink.search(code, count)
            assert sum(hit.score > 0.9999 for hit in hits) == count // 8
