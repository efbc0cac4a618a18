"""Tables are read in parts of bounded size, in any order, whatever their writer made of them."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow
import pytest
from pyarrow import ipc, parquet

from serving.export.inputs import _row_groups
from serving.export.inputs._row_groups import RowGroups, group_of, open_groups
from serving.export.inputs.base import InputError, LeftOut, Unreadable
from serving.export.inputs.detection import open_input
from serving.storage.location import Location


def groups_of(path: Path) -> RowGroups:
    return open_groups(Location.parse(str(path)))


def test_a_large_row_group_is_read_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_row_groups, "MAX_GROUP_BYTES", 4000)
    rng = random.Random(0)
    cells = [rng.randbytes(500) for _ in range(100)]
    table = pyarrow.table({"key": range(100), "image": cells})
    parquet.write_table(table, tmp_path / "x.parquet", row_group_size=60)
    groups = groups_of(tmp_path / "x.parquet")
    assert groups.starts[-1] == 100
    assert max(b - a for a, b in zip(groups.starts, groups.starts[1:], strict=False)) <= 8
    for row in (0, 1, 99, 61, 60, 59, 7, *rng.sample(range(100), 20)):
        group, inside = group_of(groups, row)
        assert groups.column(group, "image")[inside].as_py() == cells[row]
        assert groups.column(group, "key")[inside].as_py() == row
    with pytest.raises(IndexError):
        group_of(groups, 100)


@pytest.mark.parametrize("is_stream", [True, False])
def test_batches_with_dictionaries_are_read_in_any_order(is_stream: bool, tmp_path: Path) -> None:
    texts = ["a", "b", "a", "c", None]
    column = pyarrow.array(texts).dictionary_encode()
    table = pyarrow.table({"text": column, "view": pyarrow.array(texts, pyarrow.string_view())})
    new = ipc.new_stream if is_stream else ipc.new_file
    with pyarrow.OSFile(str(tmp_path / "x.arrow"), "wb") as out, new(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    groups = groups_of(tmp_path / "x.arrow")
    assert (groups.starts, groups.problem) == ([0, 2, 4, 5], "")
    for group in (2, 0, 1, 0):
        start, end = groups.starts[group : group + 2]
        for name in ("text", "view"):
            assert groups.column(group, name).to_pylist() == texts[start:end]


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"PAR1", b"ARROW1\0\0", b"\xff" * 64, b"text\n" * 100):
        (tmp_path / "x.parquet").write_bytes(data)
        with pytest.raises(InputError, match="^not a table$"):
            groups_of(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("cells", "contents"),
    [
        (pyarrow.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (pyarrow.array(["a", "b", "a"], pyarrow.large_string()), ["a", "b", "a"]),
        (pyarrow.array([b"1", b"2", b"3"], pyarrow.binary(1)), [b"1", b"2", b"3"]),
        (pyarrow.array([b"1", b"2", b"3"]).dictionary_encode(), [b"1", b"2", b"3"]),
        (
            pyarrow.array(
                [[{"bytes": b"1", "path": "x"}, {"bytes": b"2", "path": None}], [], None]
            ),
            [b"1", b"2", *["image: must not be empty"] * 2],
        ),
        (
            pyarrow.array([["a"], [None, "b"], []]),
            ["a", "text: must not be empty", "b"] * 1 + ["text: must not be empty"],
        ),
    ],
    ids=["dictionary", "large", "fixed", "binary dictionary", "images of Hugging Face", "texts"],
)
def test_types_that_other_libraries_write_are_read(
    cells: pyarrow.Array, contents: list[object], tmp_path: Path
) -> None:
    table = pyarrow.table({"cell": cells})
    with (
        pyarrow.OSFile(str(tmp_path / "x.arrow"), "wb") as out,
        ipc.new_stream(out, table.schema) as w,
    ):
        w.write_table(table)
    source = open_input(str(tmp_path), column="cell")
    entries = list(source.entries(LeftOut()))
    assert len({entry.id for entry in entries}) == len(contents)
    read = [entry.problem or next(source.read([entry])) for entry in entries]
    assert [x.reason if isinstance(x, Unreadable) else x for x in read] == contents
