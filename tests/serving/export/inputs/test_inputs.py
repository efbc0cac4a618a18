"""What an export reads, and what it cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.dataset as dataset
import pytest

from tests.serving.export.command import files, options, run
from tests.serving.export.image_folders import png, tar


def test_tars_give_the_same_codes(tiny_bundle: Path, tmp_path: Path) -> None:
    tar(tmp_path / "in" / "shard-0.tar", 5)
    tar(tmp_path / "in" / "shard-1.tar", 3)
    run(tmp_path / "in", tmp_path / "out", *options(tiny_bundle))
    rows = dataset.dataset(tmp_path / "out" / "data").to_table().to_pylist()
    assert [row["id"] for row in rows] == [
        *(f"shard-0.tar/{n:04d}.png" for n in range(5)),
        *(f"shard-1.tar/{n:04d}.png" for n in range(3)),
    ]
    assert rows[2]["indices"] == rows[7]["indices"]


def test_files_of_many_entries_are_listed_once(tiny_bundle: Path, tmp_path: Path) -> None:
    """As long as they are the same, which size and time of change tell."""
    file = tar(tmp_path / "in" / "shard.tar", 5)
    arguments = [tmp_path / "in", tmp_path / "out", *options(tiny_bundle)]
    run(*arguments)
    before, times = files(tmp_path / "out"), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_bytes(b"no tar file".ljust(file.stat().st_size))
    os.utime(file, ns=times)
    run(*arguments)
    assert files(tmp_path / "out") == before
    os.utime(file, (0, 0))
    assert "1 new, 0 changed, 5 gone" in run(*arguments)
    tar(file, 5)
    assert "0 new, 5 changed, 0 gone" in run(*arguments)
    tar(file, 6)
    assert "1 new, 5 changed, 0 gone" in run(*arguments)
    assert files(tmp_path / "out") == before


def test_tables_of_texts_and_of_images(tiny_bundle: Path, tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import feather, parquet

    table = pyarrow.table(
        {
            "key": ["a", "b", "c"],
            "caption": ["a dog", None, "a red star"],
            "image": [{"bytes": png(1), "path": "x"}, {"bytes": None, "path": "y"}, None],
        }
    )
    parquet.write_table(table, tmp_path / "table.parquet")
    for column, good, reasons in (
        ("caption", ["a", "c"], ["text: must not be empty"]),
        ("image", ["a"], ["no bytes, only a path", "image: must not be empty"]),
    ):
        output = tmp_path / column
        arguments = ["--column", column, "--id-column", "key", "--dense"]
        run(tmp_path / "table.parquet", output, *arguments, *options(tiny_bundle))
        rows = dataset.dataset(output / "data").to_table()
        assert rows["id"].to_pylist() == good
        missing = dataset.dataset(output / "quarantine").to_table()
        assert missing["reason"].to_pylist() == reasons
    feather.write_feather(table, tmp_path / "same.feather", chunksize=2)
    run(tmp_path / "same.feather", tmp_path / "same", *arguments, *options(tiny_bundle))
    again = dataset.dataset(tmp_path / "same" / "data").to_table()
    assert again.drop_columns("source").equals(rows.drop_columns("source"))
    printed = run(tmp_path / "table.parquet", tmp_path / "x", "--column", "nothing", code=1)
    assert "has no column nothing; its columns are key, caption, image" in printed
    printed = run(tmp_path / "table.parquet", tmp_path / "x", code=1)
    assert (
        "name the column that holds the images or the texts: table.parquet has key, cap" in printed
    )


def test_texts_have_no_patches(tiny_bundle: Path, tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": ["a dog"]}), tmp_path / "table.parquet")
    arguments = ["--column", "text", "--patch", 1, *options(tiny_bundle)]
    printed = run(tmp_path / "table.parquet", tmp_path / "out", *arguments, code=1)
    assert printed == "Error: --patch: texts have no patches\n"
    assert not (tmp_path / "out").exists()


def test_a_text_that_is_refused_is_in_quarantine(tiny_bundle: Path, tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    texts = pyarrow.table({"text": ["a dog", "dog " * 10_000, "", "a red star"]})
    parquet.write_table(texts, tmp_path / "table.parquet")
    run(tmp_path / "table.parquet", tmp_path / "out", "--column", "text", *options(tiny_bundle))
    rows = dataset.dataset(tmp_path / "out" / "data").to_table()
    assert rows["id"].to_pylist() == [f"table.parquet:{row}" for row in (0, 3)]
    missing = dataset.dataset(tmp_path / "out" / "quarantine").to_table()
    assert missing["reason"].to_pylist() == [
        "text: more than 16384 characters",
        "text: must not be empty",
    ]


def test_a_damaged_group_of_a_table_costs_its_rows(tiny_bundle: Path, tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"image": [png(number) for number in range(6)]})
    file = tmp_path / "table.parquet"
    parquet.write_table(table, file, row_group_size=2, compression="none", use_dictionary=False)
    start = parquet.read_metadata(file).row_group(1).column(0).data_page_offset
    data = bytearray(file.read_bytes())
    data[start : start + 40] = b"\xff" * 40
    file.write_bytes(data)
    run(file, tmp_path / "out", "--column", "image", *options(tiny_bundle))
    rows = dataset.dataset(tmp_path / "out" / "data").to_table()
    assert rows["id"].to_pylist() == [f"table.parquet:{row}" for row in (0, 1, 4, 5)]
    missing = dataset.dataset(tmp_path / "out" / "quarantine").to_table()
    assert missing["reason"].to_pylist() == ["cannot be read"] * 2


def test_a_list_of_paths_names_what_is_missing(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(png(1))
    (tmp_path / "list.txt").write_text("one.png\nfirst\tone.png\ngone.png\n\n")
    run(tmp_path / "list.txt", tmp_path / "out", *options(tiny_bundle))
    rows = dataset.dataset(tmp_path / "out" / "data").to_table()
    assert rows["id"].to_pylist() == ["one.png", "first"]
    [missing] = dataset.dataset(tmp_path / "out" / "quarantine").to_table().to_pylist()
    assert (missing["id"], missing["reason"]) == ("gone.png", "not found")


@pytest.mark.parametrize(
    ("source", "more", "message"),
    [
        ("http://localhost/x", [], "http://: not a file system"),
        ("nowhere", [], "nowhere: not found"),
        (".", ["--column", "x"], "--column: . is no table"),
        (".", ["--id-column", "x"], "--id-column: . is no table"),
    ],
)
def test_bad_input_gets_one_line(
    source: str, more: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = run(source, tmp_path / "out", *more, code=1)
    assert printed.startswith("Error: ")
    assert message in printed
    assert printed.count("\n") == 1
