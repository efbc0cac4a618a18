"""An entry that is not what was listed is not read, and costs no other."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import fsspec
import pyarrow
import pytest
from pyarrow import parquet

from serving.export.inputs import INPUTS
from serving.export.inputs.base import Unreadable
from serving.export.inputs.detection import open_input
from serving.storage.left_out import LeftOut
from tests.cases.collection_files import image
from tests.cases.collections import WRITERS

pytestmark = pytest.mark.kind("K2")


@pytest.mark.parametrize("kind", INPUTS.names)
def test_an_entry_that_changes_after_it_was_listed_is_not_read(kind: str, tmp_path: Path) -> None:
    """By size and time of change of its file; one that is gone is told apart."""
    written = WRITERS[kind](tmp_path / kind)
    columns = {"column": "image", "id_column": "key"} if kind == "table" else {}
    opened = open_input(str(written.source), **columns)
    entries = [entry for entry in opened.entries(LeftOut()) if not entry.problem]
    holders = {"webdataset": "0.TAR", "table": "0.PARQUET"}
    file = written.source / holders.get(kind, "good.png")
    file = written.source.parent / "good.png" if kind == "list" else file
    of_the_file = [e for e in entries if e.source.partition(":")[0] == file.name]
    assert of_the_file
    file.write_bytes(file.read_bytes() + b"x")
    changed = [c.reason for c in opened.read(of_the_file) if isinstance(c, Unreadable)]
    assert changed == ["changed since it was listed"] * len(of_the_file)
    file.unlink()
    gone = [c.reason for c in opened.read(of_the_file) if isinstance(c, Unreadable)]
    assert gone == ["not found"] * len(of_the_file)
    others = [entry for entry in entries if entry not in of_the_file]
    assert Counter(type(content) for content in opened.read(others))[bytes]


@pytest.mark.kind("K3")
@pytest.mark.parametrize("before", [[image(1), image(2)], [[image(1)], [image(2), image(3)]]])
@pytest.mark.parametrize(
    "after", [[image(1)], [[image(1)], None], [[image(1)], []], [5, 6], ["a dog", "a cat"]]
)
def test_a_table_that_has_become_another_costs_its_own_entries(
    before: list[object], after: list[object], tmp_path: Path
) -> None:
    """Fewer rows, other lists, another type."""
    for name in ("a", "b"):
        parquet.write_table(pyarrow.table({"image": before}), tmp_path / f"{name}.parquet")
    opened = open_input(str(tmp_path), column="image")
    entries = list(opened.entries(LeftOut()))
    parquet.write_table(pyarrow.table({"image": after}), tmp_path / "b.parquet")
    contents = list(open_input(str(tmp_path), column="image").read(entries))
    half = len(entries) // 2
    assert all(isinstance(content, bytes) for content in contents[:half])
    assert contents[half:] == [Unreadable("changed since it was listed")] * half


@pytest.mark.kind("K2")
def test_an_object_that_is_replaced_after_it_was_listed_is_not_read() -> None:
    store = fsspec.filesystem("memory")
    for name in ("a.png", "b.png"):
        store.pipe(f"/replaced/{name}", image(1))
    opened = open_input("memory://replaced")
    entries = list(opened.entries(LeftOut()))
    store.pipe("/replaced/b.png", image(1))
    good, replaced = opened.read(entries)
    assert (good, replaced) == (image(1), Unreadable("changed since it was listed"))
    store.rm("/replaced", recursive=True)
