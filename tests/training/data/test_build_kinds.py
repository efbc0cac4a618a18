"""Builds with sets of one colour and with foreign styles."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.training.data.hand_made import CIRCLE, build, icon_set
from training.data.data_recipe import DataRecipe, MonoSpec, PackageSpec, SetSpec
from training.data.english import FILES as WORD_FILES
from training.data.mono import STYLE
from training.data.paint import pick_colours
from training.data.shards import read_split


def test_sets_of_one_colour_are_painted_and_tell_nothing_of_held_out_emoji(
    recipe: DataRecipe, tmp_path: Path, tarball: Callable[[dict[str, bytes]], bytes]
) -> None:
    """`red apple` is held out; `rocket` and `wrench` are drawn in colour."""
    shape = CIRCLE.format(6, "currentColor")
    names = ["rocket", "wrench", "apple-red", "red-apple-tree", "tree", "yunque", "tree-2", "rake"]
    words = dict.fromkeys(WORD_FILES, b"") | {
        "usr/share/wordnet/index.noun": b"apple n\nrocket n\ntree n\nred n\nwrench n\nrake n\n",
        "usr/share/wordnet/cntlist.rev": b"tree%1:20:00:: 1 20\n",
    }
    packages = dict(recipe.packages)
    for key, files in {
        "wordnet": words,
        "icons": {"json/line.json": icon_set("line", dict.fromkeys(names, shape))},
    }.items():
        content = tarball(files)
        sha256 = hashlib.sha256(content).hexdigest()
        packages[key] = PackageSpec(manager="npm", name=key, version="1", sha256=sha256)
        (tmp_path / "cache" / "npm" / f"{key}-1.tgz").write_bytes(content)
    line = SetSpec(
        package="icons",
        kind="mono",
        licence="MIT",
        role="train",
        strip=(r"-\d+$",),
        only="^(?!rake)",
    )
    wider = dataclasses.replace(
        recipe,
        packages=packages,
        sets={**recipe.sets, "line": line},
        words="wordnet",
        mono=MonoSpec(per_caption=2, captions_per_word=5),
    )
    index = build(wider, tmp_path)
    dropped = {k: n for k, n in index["dropped"].items() if k.startswith("line")}
    assert dropped == {
        "line: another set has the caption": 3,
        "line: not all words are English": 1,
        "line: part of the caption is held out": 1,
        "line: variant": 1,
    }
    (tree,) = (s for s in read_split(tmp_path / "out", "train") if s.meta["set"] == "line")
    assert (tree.meta["caption"], tree.meta["style"]) == ("tree", STYLE)
    figure = pick_colours(f"line/{tree.meta['name']}").figure
    with Image.open(io.BytesIO(tree.png)) as image:
        assert image.getpixel((8, 8)) == (*bytes.fromhex(figure[1:]), 255)


def test_without_wordnet_the_sets_that_it_judges_are_left_out(
    recipe: DataRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = PackageSpec(manager="npm", name="absent", version="1", sha256="0", optional=True)
    mono = SetSpec(package="iconify", kind="mono", licence="MIT", role="train")
    wider = dataclasses.replace(
        recipe,
        packages={**recipe.packages, "absent": absent},
        sets={**recipe.sets, "plain": mono},
        words="absent",
        mono=MonoSpec(per_caption=2, captions_per_word=5),
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    index = build(wider, tmp_path)
    assert "plain" not in index["splits"]["train"]["sets"]
    assert "sets whose captions WordNet judges: plain" in index["notes"]


def test_a_foreign_set_is_a_split_of_its_own(recipe: DataRecipe, tmp_path: Path) -> None:
    soft = dataclasses.replace(recipe.sets["soft"], role="foreign")
    foreign = dataclasses.replace(recipe, sets={"soft": soft})
    splits = build(foreign, tmp_path)["splits"]
    assert {name: split["samples"] for name, split in splits.items()} == {
        "soft": 3,
        "soft_unseen": 1,
    }
    (unseen,) = read_split(tmp_path / "out", "soft_unseen")
    assert unseen.meta["caption"] == "red apple"
