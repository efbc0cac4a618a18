"""A whole build on a handful of hand-made drawings: every step, resumed and repeated."""

from __future__ import annotations

import dataclasses
import io
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.training.data.hand_made import build
from training.data.data_recipe import DataError, DataRecipe, PackageSpec, SetSpec
from training.data.shards import read_index, read_split


def stamps(folder: Path) -> dict[str, int]:
    """Modification time of every shard."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tar")}


def test_a_build_splits_drops_and_describes(recipe: DataRecipe, tmp_path: Path) -> None:
    index = build(recipe, tmp_path)
    out = tmp_path / "out"
    found = {
        name: {f"{s.meta['set']}/{s.meta['name']}" for s in read_split(out, name)}
        for name in index["splits"]
    }
    assert found["train"] == {"soft/dog", "soft/dog-face", "soft/rocket", "plain/wrench-2"}
    assert found["test_style"] == {"hard/dog", "hard/dog-face", "hard/rocket"}
    assert found["test_codepoint"] == {"soft/red-apple"}
    assert found["test_both"] == {"hard/red-apple"}
    assert set(found) == {"train", "test_style", "test_codepoint", "test_both"}  # no empty ones
    assert index["dropped"] == {
        "plain: caption is held out": 1,
        "plain: no words": 1,
        "plain: render failed": 1,
        "plain: same image": 1,
        "soft: skin tone": 1,
    }
    metas = {s.meta["name"]: s.meta for s in read_split(out, "train")}
    assert metas["rocket"]["captions"] == ["rocket", "space ship", "rocket, thing", "rocket, dog"]
    assert metas["rocket"]["source"] == "npm:iconify@1/soft/rocket"
    assert metas["wrench-2"]["caption"] == "wrench"
    assert metas["wrench-2"]["category"] == "hand-tools"
    assert metas["dog"]["group"] == metas["dog-face"]["group"] == "group 3"
    assert read_index(out) == index


def test_a_second_run_changes_nothing(recipe: DataRecipe, tmp_path: Path) -> None:
    first = build(recipe, tmp_path)
    before = stamps(tmp_path / "out")
    assert build(recipe, tmp_path) == first
    assert stamps(tmp_path / "out") == before


def test_a_lost_shard_alone_is_written_again(recipe: DataRecipe, tmp_path: Path) -> None:
    first = build(recipe, tmp_path)
    before = stamps(tmp_path / "out")
    (tmp_path / "out" / "train-00001.tar").unlink()
    assert build(recipe, tmp_path) == first
    after = stamps(tmp_path / "out")
    assert {name for name in before if before[name] != after[name]} == {"train-00001.tar"}


def test_a_changed_recipe_is_built_anew_and_leaves_no_old_shard(
    recipe: DataRecipe, tmp_path: Path
) -> None:
    build(recipe, tmp_path)
    before = stamps(tmp_path / "out")
    changed = dataclasses.replace(recipe, render_px=24, samples_per_shard=100, sha256="1" * 64)
    index = build(changed, tmp_path)
    assert index["recipe_sha256"] == "1" * 64
    assert "train-00001.tar" in before
    assert set(stamps(tmp_path / "out")) == {
        s["file"] for split in index["splits"].values() for s in split["shards"]
    }
    sample = next(read_split(tmp_path / "out", "train"))
    with Image.open(io.BytesIO(sample.png)) as image:
        assert image.size == (24, 24)


def test_files_of_its_user_stay(recipe: DataRecipe, tmp_path: Path) -> None:
    """Shards of an earlier build and drafts of a killed one go, and nothing else does."""
    build(recipe, tmp_path)
    out = tmp_path / "out"
    own = ["mine.tar", "train-backup.tar", "train-00099.tar", "notes.tmp"]
    for name in own:
        (out / name).write_text("mine")
    draft = out / f".sparseclip-{'0' * 16}.draft"
    draft.write_bytes(b"half")
    changed = dataclasses.replace(recipe, samples_per_shard=100, sha256="1" * 64)
    index = build(changed, tmp_path)
    shards = {s["file"] for split in index["splits"].values() for s in split["shards"]}
    kept = {path.name for path in out.iterdir() if path.is_file()} - {"index.json", "words.txt"}
    assert kept == {*own, *shards}


def test_a_folder_of_something_else_is_refused(recipe: DataRecipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "photos.tar").write_text("mine")
    (out / "index.json").write_text("{}")
    with pytest.raises(DataError, match="not a data set: it holds 'index.json'"):
        build(recipe, tmp_path)
    assert sorted(path.name for path in out.iterdir()) == ["index.json", "photos.tar"]


def test_another_licence_than_the_set_states_is_refused(recipe: DataRecipe, tmp_path: Path) -> None:
    plain = dataclasses.replace(recipe.sets["plain"], licence="CC0-1.0")
    wrong = dataclasses.replace(recipe, sets={**recipe.sets, "plain": plain})
    with pytest.raises(DataError, match=r"set plain: recipe says CC0-1\.0, its metadata MIT"):
        build(wrong, tmp_path)


def test_an_optional_package_may_be_missing(recipe: DataRecipe, tmp_path: Path) -> None:
    extra = PackageSpec(manager="npm", name="absent", version="1", sha256="0", optional=True)
    clip = SetSpec(package="extra", kind="icon", licence="MIT", role="train")
    wider = dataclasses.replace(
        recipe,
        packages={**recipe.packages, "extra": extra},
        sets={**recipe.sets, "extra": clip},
    )
    os.environ["PATH"], path = str(tmp_path), os.environ["PATH"]
    try:
        index = build(wider, tmp_path)
    finally:
        os.environ["PATH"] = path
    assert index["notes"] == ["npm:absent@1: npm is not installed"]


def test_what_is_missing_is_said_before_anything_is_done(
    recipe: DataRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(DataError, match=r"resvg_py.*pip install 'sparseclip\[train\]'"):
        build(recipe, tmp_path)
    monkeypatch.undo()
    for cached in (tmp_path / "cache" / "npm").iterdir():
        last = cached
    last.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"npm:\w+@1: npm is not installed"):
        build(recipe, tmp_path)
    assert not (tmp_path / "out").exists()
