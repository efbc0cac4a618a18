"""A recipe that is not understood is refused in one line that says where and what was meant."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from training.data.data_recipe import DataError, find_recipe, load_recipe
from training.data.photos import load_photo_recipe


@pytest.fixture
def raw() -> dict[str, Any]:
    """The demo recipe as plain data."""
    loaded = yaml.safe_load(find_recipe("demo").read_text("utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def refused(tmp_path: Path, raw: object) -> str:
    """The message with which a changed recipe is refused."""
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(raw), "utf-8")
    with pytest.raises(DataError) as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_both_shipped_recipes_are_valid() -> None:
    assert load_recipe(find_recipe("demo")).render_px == 96
    photos = {"stamps", "imagenet20", "animals", "monuments", "categories"}
    assert set(load_photo_recipe(find_recipe("photos")).sets) == photos


def test_share_alike_sets_are_not_in_the_demo_recipe(raw: dict[str, Any]) -> None:
    assert not {"openmoji", "emojione-v1"} & set(raw["sets"])
    assert all("SA" not in spec["licence"] for spec in raw["sets"].values())


def test_an_unknown_key_names_the_closest_one(tmp_path: Path, raw: dict[str, Any]) -> None:
    raw["splits"]["test_fracton"] = 0.1
    wanted = "changed.yaml: splits.test_fracton: unknown key; did you mean test_fraction?"
    assert refused(tmp_path, raw) == wanted


def test_an_unknown_package_names_the_closest_one(tmp_path: Path, raw: dict[str, Any]) -> None:
    raw["sets"]["noto"]["package"] = "iconfy"
    assert "set noto: unknown package 'iconfy' (did you mean 'iconify'?)" in refused(tmp_path, raw)


def test_missing_and_mistyped_values_are_named(tmp_path: Path, raw: dict[str, Any]) -> None:
    raw["render_px"] = "large"
    assert refused(tmp_path, raw) == "changed.yaml: render_px: must be int"
    raw["render_px"] = True
    assert refused(tmp_path, raw) == "changed.yaml: render_px: must be int"
    del raw["render_px"]
    assert refused(tmp_path, raw) == "changed.yaml: render_px: missing"
    raw["render_px"], raw["packages"]["iconify"]["version"] = 96, 2.2
    assert refused(tmp_path, raw) == "changed.yaml: packages.iconify.version: must be str"
    assert refused(tmp_path, ["a"]) == "changed.yaml: top level: must be an object"


def test_values_out_of_range_are_refused(tmp_path: Path, raw: dict[str, Any]) -> None:
    assert "schema 2" in refused(tmp_path, raw | {"schema": 2})
    message = refused(tmp_path, raw | {"render_px": 2})
    assert message == "changed.yaml: render_px: must be 8 to 1,024"
    raw["splits"]["test_fraction"] = 1.5
    assert "held-out fractions" in refused(tmp_path, raw)
    raw["sets"]["noto"]["role"] = "exam"
    message = refused(tmp_path, raw)
    assert message.startswith("changed.yaml: sets.noto.role: must be one of train, ")


def test_broken_yaml_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("a: [1,\n b: {", "utf-8")
    with pytest.raises(DataError, match=r"broken\.yaml: not valid YAML") as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_name_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"'dmo' \(did you mean 'demo'\?\); known: demo, photos"):
        find_recipe("dmo")
    with pytest.raises(DataError, match=r"no recipe file nowhere\.yaml"):
        find_recipe("nowhere.yaml")


def test_the_digest_follows_content_not_spelling(tmp_path: Path, raw: dict[str, Any]) -> None:
    recipe = load_recipe(find_recipe("demo"))
    path = tmp_path / "same.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=True), "utf-8")
    assert load_recipe(path).sha256 == recipe.sha256
    raw["splits"]["salt"] = "another"
    path.write_text(yaml.safe_dump(raw), "utf-8")
    assert load_recipe(path).sha256 != recipe.sha256
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.name = "changed"  # type: ignore[misc]
