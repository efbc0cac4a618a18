"""What `sparseclip data inspect` says of data, beside what tests/cases says of bad pairs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.cases.pairs import WRITERS, WrittenPair
from tests.cases.test_held_out import pattern, saved
from training.cli.data import data
from training.loading.inspection import histogram


@pytest.fixture
def two_splits(tmp_path: Path) -> Path:
    """A split of training and a test that shares an image, one that looks alike, and a caption."""
    images = [saved(pattern(n), "PNG") for n in range(8)]
    like = saved(pattern(1).resize((48, 48)), "PNG")
    parts = {
        "train": [*zip(images[:4], ("a dog", "a <b>cat</b>", "a ship", "a car"), strict=True)],
        "test": [(images[0], "the dog"), (like, "the cat"), (images[5], "A  ship")],
    }
    for name, pairs in parts.items():
        (tmp_path / "own" / name).mkdir(parents=True)
        written = [WrittenPair(name=f"{i}", image=p, caption=c) for i, (p, c) in enumerate(pairs)]
        WRITERS["files"].write(tmp_path / "own" / name, [*written, WrittenPair(caption="")])
    return tmp_path / "own"


def test_leaks_across_splits_are_said(two_splits: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.html"
    command = ["inspect", str(two_splits)]
    done = CliRunner().invoke(data, [*command, "--json", "--sheet", str(sheet)])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    train, test = report["splits"]
    assert train["in_other_splits"] == {"image": 1, "alike": 2, "caption": 1}
    assert test["in_other_splits"] == {"image": 1, "alike": 2, "caption": 1}
    assert report["repeats"]["repeated_images"] == 1
    assert report["repeats"]["like_another"] == 2
    assert report["look_alikes"] == [{"images": 2, "keys": ["train: 1", "test: 1"]}]
    assert sum(train["tokens_histogram"].values()) == 4
    assert train["shorter_side_histogram"] == {"64-127": 4}
    page = sheet.read_text()
    assert page.count("<img") == 9  # seven pairs, and the two that look alike again
    assert "a &lt;b&gt;cat&lt;/b&gt;" in page
    assert "the caption is blank" in page
    again = CliRunner().invoke(data, [*command, "--sheet", str(sheet)])
    assert again.output == "Error: --sheet: sheet.html exists, and is not replaced\n"
    table = CliRunner().invoke(data, command).output
    assert "the same image 1, one that looks alike 2, the same caption 1" in table
    assert "2 look alike: train: 1, test: 1" in table


def test_a_histogram_has_every_range_between_its_ends() -> None:
    assert histogram([1, 2, 3, 9]) == {"1": 1, "2-3": 2, "4-7": 0, "8-15": 1}
    assert histogram([0]) == {"0": 1}
    assert histogram([]) == {}


def test_errors_name_what_was_typed(tmp_path: Path) -> None:
    (tmp_path / "a.md").touch()
    none = CliRunner().invoke(data, ["inspect", str(tmp_path)])
    assert none.output == f"Error: DATA: {tmp_path.name} holds no shards, tables, lists or images\n"
    (tmp_path / "a.tar").touch()
    (tmp_path / "b.parquet").touch()
    several = CliRunner().invoke(data, ["inspect", str(tmp_path)])
    assert "set --kind to one of webdataset" in several.output
