"""A dense model's export in every format: vectors, no columns of concepts, updates, its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as dataset
import pytest
from click.testing import CliRunner

from bundle.manifest import NO_CONCEPTS
from serving.cli.main import main
from serving.export.export_reader import ExportReader
from serving.export.formats import FORMATS
from tests.cases.living_collections import AFTER, BEFORE, COLLECTIONS
from tests.serving.export.command import files, options, run
from tests.serving.export.image_folders import folder
from tests.serving.report.page import Page
from tests.support.tiny_dense import DENSE_DIM

COLUMNS = ["id", "source", "generation", "norm", "framing", "image_share", "ground", "frames"]


def vectors(output: Path) -> dict[str, Any]:
    """The live vectors of an export by their ids."""
    export = ExportReader.open(str(output))
    assert export.is_whole
    assert (export.holds_codes, export.dense_dim) == (False, DENSE_DIM)
    rows: dict[str, Any] = {}
    for receipt in export.receipts:
        for batch in export.batches(receipt, ["id", "dense", "norm"], 5):
            for row in batch.to_pylist():
                assert np.linalg.norm(row["dense"]) == pytest.approx(row["norm"], rel=1e-5)
                rows[row["id"]] = row["dense"]
    assert len(rows) == export.rows
    return rows


def report(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(main, ["report", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.kind("K10")
@pytest.mark.parametrize("form", FORMATS.names)
def test_a_dense_export_holds_vectors_and_follows_its_input(
    form: str, dense_bundle: Path, tmp_path: Path
) -> None:
    write, output = COLLECTIONS["folder"], tmp_path / "out"
    arguments = [
        *write(tmp_path / "in", BEFORE), output, *options(dense_bundle), "--format", form
    ]  # fmt: skip
    run(*arguments)
    assert run("verify", output) == "whole\n"
    first, before = vectors(output), files(output)
    assert run(*arguments).startswith("whole already: 19 rows, 1 in quarantine")
    assert files(output) == before
    write(tmp_path / "in", AFTER)
    assert "update 1: 18 rows, 2 in quarantine" in run(*arguments, "--update")
    assert run("verify", output) == "whole\n"
    run(*write(tmp_path / "in", AFTER), tmp_path / "new", *options(dense_bundle))
    after, new = vectors(output), vectors(tmp_path / "new")
    assert after.keys() == new.keys() != first.keys()
    for id, vector in new.items():
        np.testing.assert_allclose(after[id], vector, atol=1e-5)
    if form == "parquet":
        table = dataset.dataset(output / "data").to_table()
        assert table.column_names == [*COLUMNS, "dense"]
        [shard] = [r for r in ExportReader.open(str(output)).receipts if r.shard == 1]
        for path in shard.files:  # a damaged shard is made again
            (output / path).write_bytes(b"")
        assert "of another size" in run("verify", output, code=1)
        run(*arguments)
        assert run("verify", output) == "whole\n"
    said = report(output, "--input", tmp_path / "in", "-o", tmp_path / "page.html")
    assert f"18 rows, {DENSE_DIM} values each" in said
    page = Page(tmp_path / "page.html")
    assert page.data["summary"]["quarantined"] == sum(r["count"] for r in page.data["quarantine"])
    assert "concept" not in page.source.partition("<body>")[2].partition("<script")[0]


@pytest.mark.kind("K2")
def test_options_about_concepts_are_refused(dense_bundle: Path, tmp_path: Path) -> None:
    source = folder(tmp_path / "in", 6)
    for option in (["--sparse"], ["--top", "3"]):
        printed = run(source, tmp_path / "out", *options(dense_bundle), *option, code=1)
        assert printed == f"Error: {option[0]}: {NO_CONCEPTS}\n"
    printed = run(source, tmp_path / "out", *options(dense_bundle), "--patch", "3", code=1)
    assert printed == f"Error: --patch: {NO_CONCEPTS}\n"
    assert not (tmp_path / "out").exists()
    run(source, tmp_path / "out", *options(dense_bundle), "--dense", "--no-sparse", "--top", "0")
    for option in (["--concepts", "3"], ["--top", "3"]):
        printed = report(tmp_path / "out", "-o", tmp_path / "page.html", *option, code=1)
        assert printed.endswith("holds dense vectors and no concepts\n")


@pytest.mark.kind("K5")
def test_a_report_finds_what_is_nearly_the_same(
    dense_bundle: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    source = folder(tmp_path / "in", 20, (3,))
    (source / "copy.png").write_bytes(sorted(source.rglob("*.png"))[5].read_bytes())
    outputs = {"dense": options(dense_bundle), "sparse": [*options(tiny_bundle), "--no-sparse"]}
    for name, given in outputs.items():
        run(source, tmp_path / name, *given, "--dense", "--top", "0")
        report(tmp_path / name, "--input", source, "-o", tmp_path / "page.html")
        page = Page(tmp_path / "page.html")
        data = page.data
        assert (data["summary"]["rows"], data["width"], data["sampled"]) == (20, DENSE_DIM, 20)
        assert sum(data["norms"]["counts"]) == sum(data["nearest"]["counts"]) == 20
        nearest = data["pairs"][0]
        assert nearest["cosine"] == pytest.approx(1, abs=1e-5)
        same = {data["examples"][str(nearest[side])]["id"] for side in ("one", "other")}
        assert "copy.png" in same
        assert data["near_duplicates"] >= 2
        assert same <= set(page.images)
        assert data["read"]["cropped"] >= 0


@pytest.mark.kind("K2")
def test_an_export_without_rows_says_so(dense_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    run(tmp_path / "in", tmp_path / "out", *options(dense_bundle), "--allow-empty")
    assert "0 rows" in report(tmp_path / "out", "-o", tmp_path / "page.html")
    ended = CliRunner().invoke(
        main, ["index", str(tmp_path / "out"), f"opensearch:{tmp_path / 'bulk'}"]
    )
    assert ended.exit_code == 1
    assert ended.output.endswith("holds no row, so there is nothing to index\n")
    assert not (tmp_path / "bulk").exists()
