"""The packages of a recipe, read: drawings, the emoji table, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bundle.progress import show_progress
from training.data.data_recipe import DataRecipe
from training.data.emoji import FILES, EmojiTable
from training.data.fetch import FetchError, fetch, members
from training.data.icons import (
    Drawing,
    Dropped,
    iconify_file,
    iconify_names,
    read_codepoint_images,
    read_iconify,
)
from training.data.openclipart import ROOT, read_openclipart


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
    with show_progress("fetching", len(recipe.packages), "packages", leave=True) as advance:
        for key, package in recipe.packages.items():
            try:
                files[key] = dict(members(fetch(package, cache), _members_of(recipe, key)))
            except FetchError as error:
                if not package.optional:
                    raise
                notes.append(str(error))
            advance()
    table = EmojiTable.from_files(files[recipe.keywords])
    for name, spec in recipe.sets.items():
        if spec.kind == "emoji" and iconify_file(name) in files[spec.package]:
            table.add_names(iconify_names(files[spec.package][iconify_file(name)]))
    drawings: list[Drawing] = []
    dropped: Counter[str] = Counter()
    with show_progress("reading", None, "drawings") as advance:
        for entry in _read_sets(recipe, files, table):
            if isinstance(entry, Dropped):
                dropped[f"{entry.set}: {entry.reason}"] += 1
            else:
                drawings.append(entry)
            advance()
    return PackageContents(drawings=drawings, table=table, dropped=dropped, notes=notes)


def _members_of(recipe: DataRecipe, key: str) -> Callable[[str], bool]:
    """Whether a member of the package `key` is read, by its path."""
    sets = {name: spec for name, spec in recipe.sets.items() if spec.package == key}
    names = {iconify_file(name) for name in sets} | (FILES if key == recipe.keywords else set())
    images = any(spec.kind == "codepoint" for spec in sets.values())
    clipart = any(spec.kind == "openclipart" for spec in sets.values())
    return lambda path: (
        path in names
        or (images and path.startswith("assets/"))
        or (clipart and path.startswith(ROOT) and path.endswith(".svg"))
    )


def _read_sets(
    recipe: DataRecipe, files: Mapping[str, Mapping[str, bytes]], table: EmojiTable
) -> Iterator[Drawing | Dropped]:
    for name, spec in recipe.sets.items():
        if spec.package not in files:
            continue
        package, contents = recipe.packages[spec.package], files[spec.package]
        if spec.kind == "codepoint":
            yield from read_codepoint_images(name, spec, package, contents, table)
        elif spec.kind == "openclipart":
            yield from read_openclipart(name, spec, package, contents)
        else:
            yield from read_iconify(name, spec, package, contents[iconify_file(name)], table)
