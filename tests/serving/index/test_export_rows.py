"""An export read for a database: whole rows of whole exports, or a clear error."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.dataset as dataset
import pytest

from serving.export.job import ExportError
from serving.index.export_rows import ExportRows
from tests.serving.index.conftest import BROKEN, COUNT, Collection


def test_rows_are_the_unit_codes_of_the_export(exported: Path, collection: Collection) -> None:
    table = dataset.dataset(exported / "data").to_table().to_pylist()
    assert len(collection.rows) == len(table) == COUNT - len(BROKEN)
    for row, expected in zip(collection.rows, table, strict=True):
        assert (row.id, row.source) == (expected["id"], expected["source"])
        assert row.vector.indices.tolist() == expected["indices"]
        values = np.array(expected["values"], np.float32) / np.float32(expected["norm"])
        np.testing.assert_allclose(row.vector.values, values, rtol=1e-6)
    assert ExportRows.open(str(exported)).total == len(table)


@pytest.mark.parametrize("size", [1, 16, 1000])
def test_any_size_of_batch_gives_the_same_rows(
    size: int, exported: Path, collection: Collection
) -> None:
    batches = list(ExportRows.open(str(exported)).batches(size))
    assert max(map(len, batches)) <= size
    rows = [row for batch in batches for row in batch]
    assert [row.id for row in rows] == [row.id for row in collection.rows]
    for row, expected in zip(rows, collection.rows, strict=True):
        np.testing.assert_array_equal(row.vector.values, expected.vector.values)


def test_an_unfinished_export_is_refused(exported: Path, tmp_path: Path) -> None:
    output = shutil.copytree(exported, tmp_path / "export")
    (output / "DONE.json").unlink()
    with pytest.raises(ExportError, match="not finished: no DONE.json"):
        ExportRows.open(str(output))
    with pytest.raises(ExportError, match="not an export: no job.json"):
        ExportRows.open(str(tmp_path / "nowhere"))


def test_an_export_that_is_not_whole_is_refused(exported: Path, tmp_path: Path) -> None:
    output = shutil.copytree(exported, tmp_path / "export")
    second = sorted((output / "data").iterdir())[1]
    second.write_bytes(second.read_bytes()[:-1] + b"x")
    with pytest.raises(ExportError, match="altered since they were written: 1;"):
        ExportRows.open(str(output))
    (output / "receipts" / "part-000001.json").unlink()
    with pytest.raises(ExportError, match="missing or altered since they were written: some;"):
        ExportRows.open(str(output))
