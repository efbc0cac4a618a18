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
    """The research recipe as plain data."""
    loaded = yaml.safe_load(find_recipe("demo-research").read_text("utf-8"))
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


def test_all_shipped_recipes_are_valid() -> None:
    assert load_recipe(find_recipe("demo-research")).render_px == 96
    photos = {"stamps", "imagenet20", "animals", "monuments", "categories"}
    assert set(load_photo_recipe(find_recipe("photos")).sets) == photos


def test_the_shipped_model_trains_on_all_emoji_and_on_no_held_out_style() -> None:
    demo, research = (load_recipe(find_recipe(name)) for name in ("demo", "demo-research"))
    assert (demo.name, demo.splits.test_fraction, demo.splits.val_fraction) == ("demo", 0, 0)
    roles = {name: spec.role for name, spec in demo.sets.items()}
    assert (roles["noto"], roles["noto-v1"]) == ("test_style", "test_style")
    assert roles["fxemoji"] == "val_style"
    fractions = dataclasses.replace(demo.splits, test_fraction=0.33, val_fraction=0.05)
    same = dataclasses.replace(demo, name=research.name, splits=fractions, sha256=research.sha256)
    assert same == research


def test_no_recipe_trains_on_a_foreign_set_or_on_one_with_a_licence_that_binds(
    raw: dict[str, Any],
) -> None:
    foreign = load_recipe(find_recipe("foreign"))
    assert {spec.role for spec in foreign.sets.values()} == {"foreign"}
    assert not set(foreign.sets) & set(raw["sets"])
    assert {"CC-BY-SA-4.0", "GPL-2.0-only"} == {spec.licence for spec in foreign.sets.values()}
    for name, spec in raw["sets"].items():
        assert not {"SA", "NC", "GPL", "MPL", "OFL"} & set(spec["licence"].split("-")), name
    # And no package of the base is fetched for nothing.
    assert set(foreign.used_packages) == {"iconify", "emojibase", "stamps"}


def test_values_of_a_base_are_replaced_by_their_path(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    own: dict[str, Any] = {
        "base": "demo-research",
        "name": "own",
        "splits.salt": "x",
        "mono": None,
        "sets": {},
    }
    path.write_text(yaml.safe_dump(own), "utf-8")
    recipe = load_recipe(path)
    assert (recipe.name, recipe.splits.salt, recipe.mono, recipe.sets) == ("own", "x", None, {})
    assert recipe.splits.test_fraction == 0.33
    assert recipe.sha256 != load_recipe(find_recipe("demo-research")).sha256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"splits.test_fracton": 0},
            "splits.test_fracton: unknown key; did you mean test_fraction?",
        ),
        ({"split.salt": "x"}, "split.salt: demo-research.yaml has no split"),
        ({"base": "demo"}, "base: demo.yaml is no whole recipe"),
        ({"base": "demo-reserch"}, "unknown recipe 'demo-reserch' (did you mean 'demo-research'?)"),
    ],
)
def test_a_wrong_path_or_base_is_named(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    assert message in refused(tmp_path, {"base": "demo-research", "name": "own"} | change)


def test_what_a_kind_wants_is_named(tmp_path: Path, raw: dict[str, Any]) -> None:
    raw["mono"] = None
    assert "kind mono wants mono" in refused(tmp_path, raw)
    raw["words"] = ""
    assert "wants words" in refused(tmp_path, raw)


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
    with pytest.raises(DataError, match=r"'dmo' \(did you mean 'demo'\?\); known: demo, demo-"):
        find_recipe("dmo")
    with pytest.raises(DataError, match=r"no recipe file nowhere\.yaml"):
        find_recipe("nowhere.yaml")


def test_the_digest_follows_content_not_spelling(tmp_path: Path, raw: dict[str, Any]) -> None:
    recipe = load_recipe(find_recipe("demo-research"))
    path = tmp_path / "same.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=True), "utf-8")
    assert load_recipe(path).sha256 == recipe.sha256
    raw["splits"]["salt"] = "another"
    path.write_text(yaml.safe_dump(raw), "utf-8")
    assert load_recipe(path).sha256 != recipe.sha256
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.name = "changed"  # type: ignore[misc]
