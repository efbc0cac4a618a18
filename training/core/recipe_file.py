"""Recipes as YAML files, with single values changed from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bundle.schema import SchemaError


def read_yaml(name: str, folder: Path, overrides: Sequence[str] = ()) -> Any:
    """The data of `folder/NAME.yaml`, or of the file that a name ending in .yaml is the path of.

    `overrides` are `section.key=value`, the value read as YAML; a number in the path counts the
    entries of a list. Raises SchemaError naming the field.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(names(folder))
        raise SchemaError(f"recipe: no {name!r}; there are {known}, or give a .yaml file")
    try:
        data = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise SchemaError(f"recipe: not YAML at line {line}") from None
    for text in overrides:
        key, sign, value = text.partition("=")
        if not sign:
            raise SchemaError(f"{text}: an override is section.key=value")
        *sections, last = key.split(".")
        place = data
        for section in sections:
            place = _inside(place, section, key)
        if isinstance(place, list):
            _inside(place, last, key)
            place[int(last)] = yaml.safe_load(value)
        else:
            place[last] = yaml.safe_load(value)
    return data


def names(folder: Path) -> list[str]:
    """The recipes of a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _inside(place: Any, section: str, key: str) -> Any:
    if isinstance(place, list):
        if not section.isdigit() or int(section) >= len(place):
            raise SchemaError(f"{key}: {section} is not one of {len(place)} entries")
        return place[int(section)]
    inner = place.setdefault(section, {})
    if not isinstance(inner, dict | list):
        raise SchemaError(f"{key}: {section} holds no keys")
    return inner
