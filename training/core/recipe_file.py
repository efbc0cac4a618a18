"""Recipes: runs as data, read strictly from YAML files, in which a caller may change values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml

from bundle.schema import SchemaError, from_dict


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """The part that all recipes share. A subclass adds its sections and sets FOLDER."""

    FOLDER: ClassVar[Path]
    """The folder of the recipes that come with the project, NAME.yaml each."""

    name: str
    about: str = field(default="", compare=False)
    """What the recipe is for, and at which scale. It does not distinguish recipes."""

    @classmethod
    def names(cls) -> list[str]:
        """Names of the recipes that come with the project."""
        return sorted(path.stem for path in cls.FOLDER.glob("*.yaml"))

    @classmethod
    def load(cls, name: str, overrides: Sequence[str] = ()) -> Self:
        """Reads a recipe by name, or by the path of a file that ends in .yaml.

        `overrides` are `section.key=value`, the value read as YAML; a number in the path is an
        index into a list. Raises SchemaError naming the field.
        """
        return cls.parse(_overridden(cls._read(name), overrides))

    @classmethod
    def parse(cls, data: object) -> Self:
        """Builds a recipe from plain data, as `to_dict` gives it. Raises SchemaError naming the
        field."""
        recipe = from_dict(cls, data, at="")
        recipe.check()
        return recipe

    @classmethod
    def parse_saved(cls, data: object) -> Self:
        """Builds the recipe that a run or a checkpoint holds. It was checked when the run began, by
        the rules of its time. Raises SchemaError naming the field."""
        return from_dict(cls, data, at="")

    def check(self) -> None:
        """Raises SchemaError for a value that has the right type but is not allowed."""

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain data, for JSON or YAML."""
        return dataclasses.asdict(self)

    @classmethod
    def _read(cls, name: str) -> Any:
        path = Path(name) if name.endswith((".yaml", ".yml")) else cls.FOLDER / f"{name}.yaml"
        if not path.is_file():
            names = ", ".join(cls.names())
            raise SchemaError(f"recipe: no {name!r}; there are {names}, or give a .yaml file")
        try:
            return yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
            raise SchemaError(f"recipe: not YAML at line {line}") from None


def _overridden(data: Any, overrides: Sequence[str]) -> Any:
    for text in overrides:
        key, sign, value = text.partition("=")
        if not sign:
            raise SchemaError(f"{text}: an override is section.key=value")
        *sections, last = key.split(".")
        section = data
        for name in sections:
            section = _inside(section, name, key)
        if isinstance(section, list):
            _inside(section, last, key)
            section[int(last)] = yaml.safe_load(value)
        else:
            section[last] = yaml.safe_load(value)
    return data


def _inside(section: Any, name: str, key: str) -> Any:
    if isinstance(section, list):
        if not name.isdigit() or int(name) >= len(section):
            raise SchemaError(f"{key}: {name} is not one of {len(section)} entries")
        return section[int(name)]
    inner = section.setdefault(name, {})
    if not isinstance(inner, dict | list):
        raise SchemaError(f"{key}: {name} holds no keys")
    return inner
