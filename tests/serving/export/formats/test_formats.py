"""Zarr and Lance beside Parquet: the same rows, found by their own readers."""

from __future__ import annotations

import sys
from pathlib import Path

import lance
import numpy as np
import pyarrow
import pyarrow.dataset as dataset
import pytest
import zarr
from click.testing import CliRunner

from serving.cli.main import main
from serving.export.export_reader import ExportReader
from serving.export.formats import FORMATS
from tests.serving.export.command import files, options, run
from tests.serving.export.image_folders import BROKEN, png
from tests.serving.report.page import Page


def rows_of(output: Path) -> pyarrow.Table:
    return dataset.dataset(output / "data").to_table()


def test_lance_reads_the_output_as_one_dataset(
    images: Path, tiny_bundle: Path, whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "lance"
    arguments = [images, output, *options(tiny_bundle), "--dense", "--format", "lance"]
    run(*arguments)
    lance_dataset = lance.dataset(output)
    assert lance_dataset.to_table().equals(rows_of(whole))
    assert lance_dataset.to_table(filter="active > 0", columns=["id"]).num_rows > 0
    assert run("verify", output) == "whole\n"
    again = run(*arguments)
    assert "rows" in again
    assert lance.dataset(output).version == lance_dataset.version


def test_lance_files_are_the_same_every_time(
    images: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    exports = []
    for name in ("one", "two"):
        output = tmp_path / name
        run(images, output, *options(tiny_bundle), "--format", "lance")
        exports.append({name: data for name, data in files(output).items() if name[0] != "_"})
    assert exports[0] == exports[1]


def test_zarr_holds_csr(images: Path, tiny_bundle: Path, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "zarr"
    run(images, output, *options(tiny_bundle), "--dense", "--format", "zarr")
    assert run("verify", output) == "whole\n"
    expected = rows_of(whole).to_pylist()
    root = zarr.open_group(output / "data", mode="r")
    number = 0
    for _, group in sorted(root.groups()):
        offsets = group["offsets"][:]
        for row in range(len(offsets) - 1):
            row_expected = expected[number]
            part = slice(int(offsets[row]), int(offsets[row + 1]))
            assert group["id"][row] == row_expected["id"]
            assert group["indices"][part].tolist() == row_expected["indices"]
            assert group["values"][part].tolist() == row_expected["values"]
            assert group["norm"][row] == np.float32(row_expected["norm"])
            assert group["dense"][row].tolist() == row_expected["dense"]
            names = [concept["name"] for concept in row_expected["concepts"]]
            assert group["top_name"][row, : len(names)].tolist() == names
            number += 1
    assert number == len(expected)


def test_a_shard_without_rows(tiny_bundle: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for number in range(4):
        (source / f"{number}.png").write_bytes(BROKEN if number < 2 else png(number))
    for form in ("parquet", "zarr", "lance"):
        output = tmp_path / form
        run(source, output, *options(tiny_bundle, rows=2), "--dense", "--format", form)
        assert run("verify", output) == "whole\n"
    assert lance.dataset(tmp_path / "lance").count_rows() == 2
    assert rows_of(tmp_path / "parquet").num_rows == 2


@pytest.mark.parametrize("form", FORMATS.names)
def test_all_columns_are_read_back(
    form: str, images: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    output, parquet = tmp_path / form, tmp_path / "expected"
    arguments = [*options(tiny_bundle), "--dense", "--patch", 3, "--patch", 0]
    run(images, parquet, *arguments)
    run(images, output, *arguments, "--format", form)
    export = ExportReader.open(str(output))
    expected = rows_of(parquet)
    assert {"patch_0", "patch_3", "dense", "concepts"} < set(expected.column_names)
    assert export.is_whole
    assert export.rows == expected.num_rows
    for columns in ([name] for name in expected.column_names):
        batches = [
            batch for receipt in export.receipts for batch in export.batches(receipt, columns, 5)
        ]
        assert max(batch.num_rows for batch in batches) == 5
        assert pyarrow.Table.from_batches(batches).equals(expected.select(columns))


def test_report_and_index_read_any_format(images: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    exports = []
    for form in FORMATS.names:
        output = tmp_path / form
        run(images, output, *options(tiny_bundle, rows=16), "--format", form)
        for words in (
            ("report", output, "--input", images, "-o", tmp_path / f"{form}.html"),
            ("index", output, f"opensearch:{tmp_path / f'{form}-bulk'}"),
        ):
            done = CliRunner().invoke(main, list(map(str, words)))
            assert done.exit_code == 0, done.output
        page = Page(tmp_path / f"{form}.html")
        data = {name: page.data[name] for name in ("active", "concepts", "pairs", "quarantine")}
        bulk = (tmp_path / f"{form}-bulk" / "bulk-000000.ndjson").read_text().splitlines()
        exports.append((data, bulk[1::2]))  # the lines between hold ids, which are an export's own
    assert exports[1:] == exports[:-1]


def test_a_format_whose_library_is_missing_names_its_extra(
    images: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "serving.export.formats.zarr_format", raising=False)
    monkeypatch.setitem(sys.modules, "zarr", None)  # as if it were not installed
    printed = run(images, tmp_path / "out", *options(tiny_bundle), "--format", "zarr", code=1)
    assert printed == "Error: format zarr: zarr is not installed; pip install 'sparseclip[zarr]'\n"
    assert not (tmp_path / "out").exists()
