"""The packages of a recipe, read: drawings, the emoji table, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bundle.progress import show_progress
from training.data.data_recipe import DataRecipe
from training.data.emoji import FILES, EmojiTable
from training.data.english import FILES as WORD_FILES
from training.data.english import EnglishWords
from training.data.fetch import FetchError, fetch, members
from training.data.icons import (
    Drawing,
    Dropped,
    iconify_file,
    iconify_names,
    read_codepoint_images,
    read_iconify,
)
from training.data.mono import choose_mono, known_captions
from training.data.openclipart import ROOT, read_openclipart
from training.data.stamps import is_stamp_file, read_stamp_drawings

JUDGED = ("mono", "openclipart")
"""Kinds of sets whose captions are compared with WordNet's words; left out without it."""


@dataclass(frozen=True, kw_only=True)
class PackageContents:
    """Everything that was read from a recipe's packages, before rendering."""

    drawings: list[Drawing]
    table: EmojiTable
    dropped: Counter[str]
    """`set: reason` -> how many."""
    notes: list[str]
    """Why optional packages are missing."""


def read_sources(recipe: DataRecipe, cache: Path) -> PackageContents:
    """Fetches the packages and reads every drawing of the recipe's sets. Raises DataError."""
    files: dict[str, dict[str, bytes]] = {}
    notes = []
    packages = recipe.used_packages
    with show_progress("fetching", len(packages), "packages", leave=True) as advance:
        for key, package in packages.items():
            try:
                files[key] = dict(members(fetch(package, cache), _members_of(recipe, key)))
            except FetchError as error:
                if not package.optional:
                    raise
                notes.append(str(error))
            advance()
    table = EmojiTable.from_files(files[recipe.keywords])
    english = EnglishWords.from_files(files[recipe.words]) if recipe.words in files else None
    if english is None and any(spec.kind in JUDGED for spec in recipe.sets.values()):
        sets = ", ".join(name for name, spec in recipe.sets.items() if spec.kind in JUDGED)
        notes.append(f"sets whose captions WordNet judges: {sets}")
    for name, spec in recipe.sets.items():
        if spec.kind == "emoji" and iconify_file(name) in files[spec.package]:
            table.add_names(iconify_names(files[spec.package][iconify_file(name)]))
    drawings: list[Drawing] = []
    dropped: Counter[str] = Counter()
    with show_progress("reading", None, "drawings") as advance:
        for entry in _read_sets(recipe, files, table, english):
            if isinstance(entry, Dropped):
                dropped[f"{entry.set}: {entry.reason}"] += 1
            else:
                drawings.append(entry)
            advance()
    return PackageContents(drawings=drawings, table=table, dropped=dropped, notes=notes)


def _members_of(recipe: DataRecipe, key: str) -> Callable[[str], bool]:
    """Whether a member of the package `key` is read, by its path."""
    sets = {name: spec for name, spec in recipe.sets.items() if spec.package == key}
    names = {iconify_file(name) for name in sets}
    names |= (FILES if key == recipe.keywords else set()) | (
        WORD_FILES if key == recipe.words else set()
    )
    kinds = {spec.kind for spec in sets.values()}
    return lambda path: (
        path in names
        or ("codepoint" in kinds and path.startswith("assets/"))
        or ("openclipart" in kinds and path.startswith(ROOT) and path.endswith(".svg"))
        or ("stamps" in kinds and is_stamp_file(path))
    )


def _read_sets(
    recipe: DataRecipe,
    files: Mapping[str, Mapping[str, bytes]],
    table: EmojiTable,
    english: EnglishWords | None,
) -> Iterator[Drawing | Dropped]:
    """Every set but those of one colour, and then these, as far as the others leave captions."""
    colour: list[Drawing] = []
    mono: list[Drawing] = []
    for name, spec in recipe.sets.items():
        if spec.package not in files or (english is None and spec.kind in JUDGED):
            continue
        for entry in _read_set(name, recipe, files[spec.package], table, english):
            if isinstance(entry, Drawing) and spec.kind == "mono":
                mono.append(entry)
                continue
            if isinstance(entry, Drawing):
                colour.append(entry)
            yield entry
    if english is not None and recipe.mono is not None:
        known = known_captions(colour, recipe.sets, table)
        yield from choose_mono(mono, recipe.sets, recipe.mono, known, english)


def _read_set(
    name: str,
    recipe: DataRecipe,
    files: Mapping[str, bytes],
    table: EmojiTable,
    english: EnglishWords | None,
) -> Iterator[Drawing | Dropped]:
    spec = recipe.sets[name]
    package = recipe.packages[spec.package]
    if spec.kind == "codepoint":
        return read_codepoint_images(name, spec, package, files, table)
    if spec.kind == "openclipart":
        assert english is not None
        return read_openclipart(name, spec, package, files, english)
    if spec.kind == "stamps":
        return read_stamp_drawings(name, spec, package, files)
    return read_iconify(name, spec, package, files[iconify_file(name)], table)
