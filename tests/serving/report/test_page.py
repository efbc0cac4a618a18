"""The page itself: whole HTML that holds all it shows, runs nothing of others, and its errors."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from serving.report.examples import THUMBNAIL_SIDE, thumbnail
from tests.serving.export.command import options, run
from tests.serving.export.image_folders import BROKEN, png, tar
from tests.serving.report.conftest import EVIL, Reporter, call, rows_of
from tests.serving.report.page import Page


def test_it_needs_nothing_else(exported: Path, source: Path, report: Reporter) -> None:
    page = report(exported, "--input", source)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 2
    assert not {"link", "iframe", "object", "embed", "base"} & set(tags)
    links = [a[name] for _, a in page.elements for name in ("src", "href") if name in a]
    assert all(str(link).startswith(("data:image/webp;base64,", "#")) for link in links)
    assert not re.search(r"url\(|@import|https?:", page.source)
    [policy] = [a["content"] for _, a in page.elements if "http-equiv" in a]
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert policy.endswith(f"script-src 'sha256-{digest}'")
    targets = {a["id"] for _, a in page.elements if "id" in a}
    assert {str(link)[1:] for link in links if str(link).startswith("#")} <= targets


def test_images_are_in_it(exported: Path, source: Path, report: Reporter) -> None:
    page = report(exported, "--input", source)
    assert set(page.images) == {example["id"] for example in page.data["examples"].values()}
    for id, uri in page.images.items():
        assert uri == thumbnail((source / id).read_bytes())
        image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
        image.load()
        assert max(image.size) <= THUMBNAIL_SIDE


def test_only_a_page_is_replaced(exported: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    call(exported, "-o", page)
    first = page.read_bytes()
    page.write_bytes(first + b"older")
    call(exported, "-o", page)
    assert page.read_bytes() == first
    for own in (exported / "job.json", exported / "DONE.json", tmp_path / "mine"):
        if own == tmp_path / "mine":
            own.write_text("mine")
        before = own.read_bytes()
        printed = call(exported, "-o", own, code=1)
        assert printed == f"Error: {own}: is there and is no report; choose another -o\n"
        assert own.read_bytes() == before


def test_a_page_names_its_export_and_may_go_to_standard_output(
    exported: Path, report: Reporter
) -> None:
    page = report(exported)
    assert str(exported) in page.text
    assert page.source in call(exported, "-o", "-")


def test_without_the_input_it_shows_ids(exported: Path, report: Reporter) -> None:
    page = report(exported)
    assert page.images == {}
    assert all(example["id"] in page.text for example in page.data["examples"].values())


def test_an_image_that_is_gone_or_has_changed_is_told(
    exported: Path, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "report.html"
    call(exported, "-o", output, "--concepts", 1)
    copy = shutil.copytree(source, tmp_path / "copy")
    gone, changed, *others = [example["id"] for example in Page(output).data["examples"].values()]
    (copy / gone).unlink()
    (copy / changed).write_bytes(BROKEN)
    printed = call(exported, "-o", output, "--concepts", 1, "--input", copy)
    problems = "not found: 1, changed since it was listed: 1"
    assert f"; 2 of {2 + len(others)} examples are not shown ({problems})" in printed
    text = Page(output).text
    assert f"{gone} (not found)" in text
    assert f"{changed} (changed since it was listed)" in text
    assert set(Page(output).images) == set(others)


@pytest.mark.parametrize("column", ["caption", "image"])
def test_ids_and_texts_stay_text(
    column: str, table: Path, tiny_bundle: Path, tmp_path: Path, report: Reporter
) -> None:
    columns = ["--column", column, "--id-column", "key"]
    run(table, tmp_path / "out", *columns, *options(tiny_bundle))
    page = report(tmp_path / "out", "--input", table, "--bundle", tiny_bundle)
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert "<b>" not in page.source
    examples = page.data["examples"].values()
    assert examples
    assert all(example["id"].startswith(EVIL) for example in examples)
    assert page.data["quarantine"][0]["ids"] == [f"{EVIL}{number}" for number in (2, 5, 8, 11)]
    assert f"{EVIL}2, {EVIL}5" in page.text
    if column == "caption":
        assert {example["text"] for example in examples} == {
            f"a red {EVIL} star",
            f"{('long ' * 100)[:240]}…",
        }
        assert f"a red {EVIL} star" in page.text
    else:
        assert set(page.images) == {example["id"] for example in examples}


def test_of_an_unfinished_export_the_finished_shards_count(
    exported: Path, tmp_path: Path, report: Reporter
) -> None:
    output = shutil.copytree(exported, tmp_path / "export")
    (output / "DONE.json").unlink()
    (output / "receipts" / "part-000002.json").unlink()
    second = sorted((output / "data").iterdir())[1]
    second.write_bytes(second.read_bytes()[:-1] + b"x")
    page = report(output)
    assert "not whole" in page.text
    assert "2 of 4 shards are finished" in page.text
    assert "altered since they were written: 1." in page.text
    first, _, _, last = sorted((exported / "data").iterdir())
    active = [row["active"] for path in (first, last) for row in rows_of(path)]
    assert page.data["summary"]["rows"] == len(active)
    assert page.data["active"]["rows"] == np.bincount(active).tolist()
    assert "the export is not whole" in call(output, "-o", tmp_path / "r.html")


def test_an_export_on_an_object_store(exported: Path, report: Reporter) -> None:
    fsspec.filesystem("memory").put(str(exported), "/bucket/codes", recursive=True)
    local, remote = report(exported).data, report("memory://bucket/codes").data
    for name in ("changed", "export"):
        del local["summary"][name], remote["summary"][name]
    assert remote == local


def test_an_export_without_rows(tiny_bundle: Path, tmp_path: Path, report: Reporter) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.png").write_bytes(BROKEN)
    run(tmp_path / "in", tmp_path / "out", *options(tiny_bundle), "--allow-empty")
    page = report(tmp_path / "out", "--input", tmp_path / "in", "--bundle", tiny_bundle)
    assert page.data["summary"]["rows"] == 0
    assert page.data["concepts"]["dead"] == page.data["concepts"]["total"]
    assert "1 entries have no row" in page.text


def test_an_export_of_one_row(tiny_bundle: Path, tmp_path: Path, report: Reporter) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.png").write_bytes(png(0))
    run(tmp_path / "in", tmp_path / "out", *options(tiny_bundle), "--top", 0)
    page = report(tmp_path / "out", "--input", tmp_path / "in")
    assert set(page.images) == {"0.png"}
    assert page.data["concepts"]["name"][0].startswith("concept ")


def test_errors_are_one_line(
    exported: Path, source: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(exported, tmp_path / "other")
    job = json.loads((exported / "job.json").read_text())
    (other / "job.json").write_text(json.dumps(job | {"bundle": "0" * 64}))
    for arguments, message in (
        ([source], "not an export: no job.json"),
        ([tmp_path / "nowhere"], "not an export: no job.json"),
        (["http://localhost/x"], "http://: not a file system"),
        ([exported, "--input", tmp_path / "nowhere"], "nowhere: not found"),
        ([exported, "--input", tar(tmp_path / "0.tar", 1)], "not what the export was made from"),
        ([other, "--bundle", tiny_bundle], "--bundle: not the tiny/1 that made the export"),
    ):
        printed = call(*arguments, "-o", tmp_path / "report.html", code=1)
        assert printed.startswith("Error: ")
        assert message in printed
        assert printed.count("\n") == 1
    assert not (tmp_path / "report.html").exists()
    assert call(exported, "-o", tmp_path, code=1) == f"Error: {tmp_path}: is a directory\n"


def test_an_input_of_another_kind_is_refused(
    table: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    run(table, tmp_path / "out", "--column", "caption", *options(tiny_bundle))
    other = tmp_path / "other.parquet"
    parquet.write_table(pyarrow.table({"caption": [png(0)]}), other)
    printed = call(tmp_path / "out", "--input", other, "-o", tmp_path / "x", code=1)
    assert printed == "Error: --input: holds images, the export is of texts\n"
