"""Files for OpenSearch and Elasticsearch: every row, and queries as those databases take them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.index.databases import DATABASES, bulk_files
from serving.index.databases.base import Code, DatabaseError, DatabaseOptions, Origin, key_of
from serving.index.export_rows import ExportRows
from tests.serving.index.conftest import Collection

DIALECTS = ("opensearch", "elasticsearch")


def open_files(folder: Path, dialect: str) -> Any:
    return DATABASES.load(dialect).open(str(folder), DatabaseOptions(name="rows"))


def load(folder: Path, exported: Path, dialect: str, largest: int = 20_000) -> Any:
    rows, files = ExportRows.open(str(exported)), open_files(folder, dialect)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk_files, "MAX_FILE_BYTES", largest)
        files.prepare(rows.origin, rows.export_name)
        for batch in rows.batches(16):
            files.load(batch)
        files.finish()
    return files


def documents(folder: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every action and its document."""
    for path in sorted(folder.glob("bulk-*.ndjson")):
        text = path.read_text()
        assert text.endswith("\n")
        lines = [json.loads(line) for line in text.splitlines()]
        yield from zip(lines[::2], lines[1::2], strict=True)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_row_is_a_document(
    dialect: str, exported: Path, collection: Collection, tmp_path: Path
) -> None:
    load(tmp_path, exported, dialect)
    written = list(documents(tmp_path))
    expected = [row for row in collection.rows if len(row.vector.indices)]
    for (action, document), row in zip(written, expected, strict=True):
        key = key_of(f"{row.stamp.partition(' ')[0]} {row.id}")
        assert action == {"index": {"_index": "rows", "_id": key}}
        assert (document["id"], document["source"]) == (row.id, row.source)
        assert list(map(int, document["code"])) == row.vector.indices.tolist()
        values = list(document["code"].values())
        assert min(values) > 0
        np.testing.assert_allclose(values, row.vector.values, rtol=1e-5)


def test_files_end_before_they_are_too_large(exported: Path, tmp_path: Path) -> None:
    load(tmp_path, exported, "opensearch")
    sizes = [path.stat().st_size for path in tmp_path.glob("bulk-*.ndjson")]
    assert len(sizes) > 3
    assert max(sizes) <= 20_000


def test_running_again_gives_the_same_files(exported: Path, tmp_path: Path) -> None:
    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    load(tmp_path, exported, "elasticsearch")
    first = files()
    load(tmp_path, exported, "elasticsearch")
    assert files() == first
    load(tmp_path, exported, "elasticsearch", largest=10**6)
    assert sorted(files()) == ["bulk-000000.ndjson", "index.json"]
    assert files()["bulk-000000.ndjson"] == b"".join(
        data for name, data in sorted(first.items()) if name != "index.json"
    )


def test_files_of_its_user_stay(exported: Path, tmp_path: Path) -> None:
    """Files of a longer run go, and nothing else does."""
    load(tmp_path, exported, "opensearch")
    own = ["bulk-notes.ndjson", "bulk-000999.txt", "bulk-900000", "below/bulk-000999.ndjson"]
    (tmp_path / "below").mkdir()
    for name in own:
        (tmp_path / name).write_text("mine")
    load(tmp_path, exported, "opensearch", largest=10**6)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*own, "bulk-000000.ndjson", "index.json"}


@pytest.mark.parametrize("name", ["notes.txt", "bulk-000000.ndjson", ".hidden", "folder"])
def test_a_folder_of_something_else_is_refused(name: str, exported: Path, tmp_path: Path) -> None:
    own = tmp_path / name
    own.mkdir() if name == "folder" else own.write_text("mine")
    with pytest.raises(DatabaseError, match=f"not from `sparseclip index`: it holds '{name}'"):
        load(tmp_path, exported, "opensearch")
    assert list(tmp_path.rglob("*")) == [own]


def test_the_index_keeps_the_model_and_prunes_nothing(exported: Path, tmp_path: Path) -> None:
    origin = ExportRows.open(str(exported)).origin
    types = {}
    for dialect in DIALECTS:
        files = load(tmp_path / dialect, exported, dialect)
        assert files.origin() == origin
        index = json.loads((tmp_path / dialect / "index.json").read_text())
        types[dialect] = index["mappings"]["properties"]["code"]
        with pytest.raises(DatabaseError, match="holds codes of tiny/1, not of tiny/9"):
            files.prepare(Origin(model="tiny/9", bundle=origin.bundle))
    assert types["opensearch"] == {"type": "rank_features"}
    assert types["elasticsearch"] == {"type": "sparse_vector", "index_options": {"prune": False}}


def test_queries_are_bodies_for_search(tmp_path: Path) -> None:
    query = Code(np.array([3, 12], np.uint32), np.array([0.6, 0.8], np.float32))
    tokens = {"3": 0.6, "12": 0.8}
    requests = {name: open_files(tmp_path, name).search_request(query, 5) for name in DIALECTS}
    assert requests["opensearch"]["query"] == {"neural_sparse": {"code": {"query_tokens": tokens}}}
    assert requests["elasticsearch"]["query"] == {
        "sparse_vector": {"field": "code", "query_vector": tokens, "prune": False}
    }
    assert {body["size"] for body in requests.values()} == {5}
    signed = Code(query.indices, np.array([0.6, -0.8], np.float32))
    with pytest.raises(DatabaseError, match="opensearch: its queries take no negative weights"):
        open_files(tmp_path, "opensearch").search_request(signed, 5)
