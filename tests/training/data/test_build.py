"""A whole build on a handful of hand-made drawings: every step, resumed and repeated."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from training.data.build import build_dataset
from training.data.data_recipe import (
    DataError,
    DataRecipe,
    NearRule,
    PackageSpec,
    SetSpec,
    SplitSpec,
)
from training.data.emoji import FILES
from training.data.shards import read_index, read_split

LABELS = {"1F34E": "red apple", "1F415": "dog", "1F436": "dog face", "1F680": "rocket"}
CIRCLE = '<circle cx="8" cy="8" r="{}" fill="{}"/>'


def emojibase() -> dict[str, bytes]:
    """The files that the emoji table reads, with four emoji."""
    files: dict[str, Any] = {name: {} for name in FILES}
    files["meta/groups.json"] = {"groups": {"4": "things"}, "subgroups": {"1": "thing"}}
    files["en/data.json"] = [
        {"label": label, "hexcode": code, "tags": ["thing", "dog"], "group": 4, "subgroup": 1}
        for code, label in LABELS.items()
    ]
    files["en/shortcodes/cldr.json"] = {"1F34E": "red_apple", "1F680": "space_ship"}
    return {name: json.dumps(content).encode() for name, content in files.items()}


def icon_set(name: str, icons: dict[str, str], **more: object) -> bytes:
    """A set in the format of @iconify/json."""
    content = {
        "prefix": name,
        "info": {"license": {"spdx": "MIT"}},
        "icons": {icon: {"body": body} for icon, body in icons.items()},
        **more,
    }
    return json.dumps(content).encode()


def iconify() -> dict[str, bytes]:
    """A training style, a test style, and plain icons."""
    emoji = {"red-apple": 7, "dog": 6, "dog-face": 5, "rocket": 4}
    bodies = {name: CIRCLE.format(r, "#c00") for name, r in emoji.items()}
    chars = {code.lower(): label.replace(" ", "-") for code, label in LABELS.items()}
    toned = {"rocket-dark-skin-tone": CIRCLE.format(3, "#111")}
    plain = {
        "wrench-2": CIRCLE.format(2, "#00c"),
        "wrench-3": CIRCLE.format(2, "#00c"),
        "apple-red": CIRCLE.format(3, "#00c"),
        "nothing": "<path d=''/>",
        "7": CIRCLE.format(1, "#00c"),
    }
    greens = {name: body.replace("c00", "0c0") for name, body in bodies.items()}
    return {
        "json/soft.json": icon_set("soft", bodies | toned, chars=chars),
        "json/hard.json": icon_set("hard", greens),
        "json/plain.json": icon_set("plain", plain, categories={"HandTools": ["wrench-2"]}),
    }


@pytest.fixture
def recipe(tmp_path: Path, tarball: Callable[[dict[str, bytes]], bytes]) -> DataRecipe:
    """A recipe whose packages lie in the cache already."""
    packages = {}
    for key, files in {"emojibase": emojibase(), "iconify": iconify()}.items():
        content = tarball(files)
        sha256 = hashlib.sha256(content).hexdigest()
        packages[key] = PackageSpec(manager="npm", name=key, version="1", sha256=sha256)
        cached = tmp_path / "cache" / "npm" / f"{key}-1.tgz"
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_bytes(content)
    # "group 0" is dealt to test, "group 3" and "group 5" to train.
    near = [("red apple", 0), ("dog( face)?", 3), ("rocket", 5)]
    return DataRecipe(
        schema=1,
        name="tiny",
        render_px=16,
        samples_per_shard=2,
        packages=packages,
        keywords="emojibase",
        sets={
            "soft": SetSpec(package="iconify", kind="emoji", licence="MIT", role="train"),
            "hard": SetSpec(package="iconify", kind="emoji", licence="MIT", role="test_style"),
            "plain": SetSpec(
                package="iconify", kind="icon", licence="MIT", role="train", strip=(r"-\d+$",)
            ),
        },
        splits=SplitSpec(
            salt="s",
            test_fraction=0.5,
            val_fraction=0.1,
            near=tuple(NearRule(group=f"group {i}", match=f"^{label}$") for label, i in near),
        ),
        sha256="0" * 64,
    )


def build(recipe: DataRecipe, tmp_path: Path) -> dict[str, Any]:
    """Build into `out`."""
    return build_dataset(recipe, tmp_path / "out", tmp_path / "cache", workers=1)


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
    assert found["val_style"] == found["val_codepoint"] == set()
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
