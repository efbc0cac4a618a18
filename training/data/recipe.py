"""The recipe of a data set: which packages, which sets, how they are split and rendered.

A recipe is a YAML file. Unknown keys are refused, naming the closest known one, so that a
misspelt setting can never be silently ignored.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import yaml

SCHEMA = 1
"""The recipe and index schema this code reads and writes."""

RECIPE_HOME = Path(__file__).resolve().parents[2] / "data"
"""Where recipes given by name are looked up."""

T = TypeVar("T")


class DataError(Exception):
    """A data set cannot be built or read; the message is one line meant for a person."""


@dataclass(frozen=True, kw_only=True)
class PackageSpec:
    """One registry package, pinned by version and by the sha256 of its archive."""

    manager: Literal["npm", "deb", "pip"]
    name: str
    version: str
    sha256: str
    optional: bool = False
    """An optional package that cannot be fetched is reported and left out."""

    @property
    def label(self) -> str:
        """`npm:name@version`, the source given to every sample of this package."""
        return f"{self.manager}:{self.name}@{self.version}"


@dataclass(frozen=True, kw_only=True)
class SetSpec:
    """One drawing style inside a package."""

    package: str
    kind: Literal["emoji", "icon", "flag", "codepoint", "openclipart"]
    licence: str
    """SPDX identifier; it must agree with the set's own metadata where there is any."""
    role: Literal["train", "val_style", "test_style"]
    strip: tuple[str, ...] = ()
    """Regular expressions removed from an icon's name before it becomes a caption."""


@dataclass(frozen=True, kw_only=True)
class NearRule:
    """Emoji whose label matches belong to one group, which is held out or trained on whole."""

    group: str
    """Group name; may refer to the match's groups (`animal \\1`)."""
    match: str


@dataclass(frozen=True, kw_only=True)
class SplitSpec:
    """How codepoint groups are dealt out."""

    salt: str
    """Changes which groups are held out; part of the hash, so keep it fixed."""
    test_fraction: float
    val_fraction: float
    always_train: tuple[str, ...] = ()
    """Emoji subgroups that are never held out by codepoint."""
    near: tuple[NearRule, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole data set."""

    schema: int
    name: str
    render_px: int
    samples_per_shard: int
    packages: Mapping[str, PackageSpec]
    keywords: str
    """The package that names emoji and gives their keywords."""
    sets: Mapping[str, SetSpec]
    splits: SplitSpec
    words: str = ""
    """The WordNet package whose words may name concepts; empty for none."""
    sha256: str = field(default="", compare=False)
    """Digest of the recipe's content, filled in when it is read."""

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise DataError(f"recipe {self.name}: schema {self.schema}, this code reads {SCHEMA}")
        if not 8 <= self.render_px <= 1024:
            raise DataError(f"recipe {self.name}: render_px {self.render_px} is not in 8..1024")
        if self.samples_per_shard < 1:
            raise DataError(f"recipe {self.name}: samples_per_shard must be at least 1")
        uses = [("keywords", self.keywords)]
        uses += [("words", self.words)] if self.words else []
        uses += [(f"set {name}", spec.package) for name, spec in self.sets.items()]
        for what, package in uses:
            if package not in self.packages:
                hint = closest(package, self.packages)
                raise DataError(f"recipe {self.name}: {what}: unknown package {package!r}{hint}")
        share = self.splits.test_fraction + self.splits.val_fraction
        if not 0 <= share < 1:
            raise DataError(f"recipe {self.name}: held-out fractions add up to {share}, not < 1")


def closest(word: str, known: typing.Iterable[str]) -> str:
    """A hint naming the known word nearest to `word`, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def build(cls: type[T], raw: object, where: str) -> T:
    """Make the dataclass `cls` from plain YAML data, refusing unknown, missing or mistyped keys."""
    if not isinstance(raw, Mapping):
        raise DataError(f"{where}: expected a mapping, got {type(raw).__name__}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cast(Any, cls))}
    for key in raw:
        if key not in fields:
            raise DataError(f"{where}: unknown key {key!r}{closest(str(key), fields)}")
    values: dict[str, Any] = {}
    for name, spec in fields.items():
        if name in raw:
            values[name] = _convert(hints[name], raw[name], f"{where}.{name}")
        elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
            raise DataError(f"{where}: missing key {name!r}")
    return cls(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return build(cast(type[Any], hint), value, where)
    if origin is Literal:
        if value not in args:
            raise DataError(f"{where}: {value!r} is none of {', '.join(map(repr, args))}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise DataError(f"{where}: expected a list, got {type(value).__name__}")
        return tuple(_convert(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _convert(args[0], value, where)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise DataError(f"{where}: expected a mapping, got {type(value).__name__}")
        return {str(k): _convert(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise DataError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value


def find_recipe(name: str) -> Path:
    """The file of a recipe given by name (`demo`) or by path."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise DataError(f"no recipe file {name}")
        return path
    path = RECIPE_HOME / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in RECIPE_HOME.glob("*.yaml"))
        raise DataError(f"unknown recipe {name!r}{closest(name, known)}; known: {', '.join(known)}")
    return path


def read_yaml(path: Path) -> Any:
    """Parse a YAML file; a syntax error becomes one line."""
    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as error:
        reason = re.sub(r"\s+", " ", str(error))
        raise DataError(f"{path.name}: not valid YAML: {reason}") from error


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe file."""
    recipe = build(Recipe, read_yaml(path), path.name)
    return dataclasses.replace(recipe, sha256=digest(recipe))


def digest(recipe: object) -> str:
    """sha256 of a resolved recipe dataclass: comments and key order do not change it."""
    plain = dataclasses.asdict(cast(Any, recipe))
    plain.pop("sha256")
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
