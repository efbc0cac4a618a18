"""Recipes: files, overrides in nested sections and lists, and errors that name their place."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bundle.schema import SchemaError
from training.core.recipe_file import BaseRecipe


@dataclass(frozen=True, kw_only=True)
class Stage:
    steps: int = 1


@dataclass(frozen=True, kw_only=True)
class Cake(BaseRecipe):
    FOLDER = Path("no such folder")

    stages: tuple[Stage, ...]
    sugar: dict[str, float] = field(default_factory=dict)

    def check(self) -> None:
        if not self.stages:
            raise SchemaError("stages: must have one at least")


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "cake.yaml"
    file.write_text("name: cake\nabout: sweet\nstages: [{steps: 2}, {}]\n")
    return str(file)


def test_a_recipe_is_read_from_a_file_or_by_its_name(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cake = Cake.load(path)
    assert cake == Cake(name="cake", stages=(Stage(steps=2), Stage()), about="described anew")
    assert Cake.parse(cake.to_dict()) == cake
    with pytest.raises(SchemaError, match="no 'pie'; there are , or give a .yaml file"):
        Cake.load("pie")
    monkeypatch.setattr(Cake, "FOLDER", tmp_path)
    assert Cake.names() == ["cake"]
    assert Cake.load("cake") == cake
    with pytest.raises(SchemaError, match="no 'pie'; there are cake, or give"):
        Cake.load("pie")


def test_overrides_reach_sections_and_lists(path: str) -> None:
    cake = Cake.load(path, ["stages.1.steps=7", "sugar.brown=0.5", "name=tart"])
    assert (cake.name, cake.stages[1].steps, cake.sugar) == ("tart", 7, {"brown": 0.5})
    assert Cake.load(path, ["stages.1={steps: 3}"]).stages[1] == Stage(steps=3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.2.steps=1", "stages.2.steps: 2 is not one of 2 entries"),
        ("stages.last=1", "stages.last: last is not one of 2 entries"),
        ("name.first=x", "name.first: name holds no keys"),
        ("stages", "stages: an override is section.key=value"),
        ("stages=[]", "stages: must have one at least"),
        ("stages.0.step=1", r"stages\[0\].step: unknown key; did you mean steps"),
    ],
)
def test_a_bad_override_names_its_place(path: str, override: str, message: str) -> None:
    with pytest.raises(SchemaError, match=f"^{message}"):
        Cake.load(path, [override])


def test_a_file_that_is_not_yaml_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("name: cake\nstages: [\nsugar: }\n")
    with pytest.raises(SchemaError, match=r"recipe: not YAML at line 3"):
        Cake.load(str(file))
