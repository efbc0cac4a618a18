"""Photographs for evaluation: captioned stamps, GCompris photographs, twenty ImageNet images.

Each set becomes one split of the same format as the training data, with two more keys: `class`,
the coarse label of an image's folder or the ImageNet class name, and `attribution`, who made the
image where its package says so.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bundle.progress import show_progress
from training.data.captions import alternatives
from training.data.data_recipe import (
    SCHEMA,
    DataError,
    PackageSpec,
    closest,
    digest,
    read_recipe,
    read_yaml,
)
from training.data.dataset import DatasetHeader, open_output, write_dataset
from training.data.fetch import check_clients, fetch, members
from training.data.gcompris import RESOURCES, Credit, read_boards, read_credits, unpack
from training.data.icons import render
from training.data.shards import Sample
from training.data.stamps import STAMPS, is_stamp_file, stamp_caption

IMAGENET = "foolbox/data/imagenet_"


@dataclass(frozen=True, kw_only=True)
class PhotoSet:
    """One set of photographs; it becomes a split of its name."""

    package: str
    kind: Literal["stamps", "imagenet", "boards", "categories"]
    """`boards`: GCompris images with a title and sentences; `categories`: with a name only."""
    licence: str
    """SPDX identifier. For GCompris it covers the sentences, and images that state no licence."""
    resources: tuple[str, ...] = ()
    """GCompris: the activities whose images these are."""
    exclude: str = r"$^"
    """Images whose FOLDER/NAME matches this regular expression are left out."""
    classes: dict[str, str] = field(default_factory=dict)
    """Folder -> coarse class; ImageNet: class number -> name."""
    captions: dict[str, str] = field(default_factory=dict)
    """GCompris: regular expression for a whole FOLDER/NAME -> caption, where names mislead."""
    common_nouns: bool = False
    """Whether titles start in lower case."""


@dataclass(frozen=True, kw_only=True)
class PhotoRecipe:
    """The photograph sets."""

    schema: int
    name: str
    kind: Literal["photos"]
    render_px: int
    samples_per_shard: int
    packages: dict[str, PackageSpec]
    sets: dict[str, PhotoSet]
    sha256: str = field(default="", compare=False)


def is_photo_recipe(path: Path) -> bool:
    """Whether a recipe file describes photographs, not drawings."""
    raw = read_yaml(path)
    return isinstance(raw, Mapping) and raw.get("kind") == "photos"


def load_photo_recipe(path: Path) -> PhotoRecipe:
    """Reads and checks a photograph recipe. Raises DataError."""
    recipe = read_recipe(PhotoRecipe, path)
    if recipe.schema != SCHEMA:
        raise DataError(f"recipe {recipe.name}: schema {recipe.schema}, this code reads {SCHEMA}")
    for name, spec in recipe.sets.items():
        if spec.package not in recipe.packages:
            hint = closest(spec.package, recipe.packages)
            raise DataError(
                f"recipe {recipe.name}: set {name}: unknown package {spec.package!r}{hint}"
            )
        if bool(spec.resources) != (spec.kind in ("boards", "categories")):
            raise DataError(f"recipe {recipe.name}: set {name}: resources do not suit {spec.kind}")
    return dataclasses.replace(recipe, sha256=digest(recipe))


def build_photos(recipe: PhotoRecipe, output: Path, cache: Path) -> dict[str, Any]:
    """Builds the photograph sets into `output` and returns the index. Raises DataError."""
    check_clients(recipe.packages.values(), cache)
    open_output(output)
    dropped: Counter[str] = Counter()
    splits: dict[str, Sequence[Sample]] = {}
    with show_progress("reading", len(recipe.sets), "sets of photographs", leave=True) as advance:
        for name, spec in recipe.sets.items():
            package = recipe.packages[spec.package]
            files = dict(members(fetch(package, cache), _members_of(spec)))
            if spec.resources:
                missing = [n for n in spec.resources if f"{RESOURCES}{n}.rcc" not in files]
                if missing:
                    raise DataError(f"{package.label}: no resource {missing[0]}.rcc")
                files = unpack(files)
            samples = []
            for photo in READERS[spec.kind](spec, files):
                try:
                    png = render(files[photo.path], recipe.render_px)
                except (ValueError, OSError):
                    dropped[f"{name}: render failed"] += 1
                    continue
                samples.append(_sample(photo, png, name, spec, package))
            splits[name] = samples
            advance()
    header = DatasetHeader(
        recipe=recipe.name,
        recipe_sha256=recipe.sha256,
        render_px=recipe.render_px,
        dropped=dropped,
    )
    return write_dataset(splits, header, output, recipe.samples_per_shard)


@dataclass(frozen=True, kw_only=True)
class Photo:
    """One photograph of a package."""

    path: str
    name: str
    caption: str
    label: str | None
    category: str | None
    texts: tuple[str, ...] = ()
    """Sentences about it."""
    licence: str = ""
    """Its own licence; empty for the set's."""
    attribution: str | None = None


def _members_of(spec: PhotoSet) -> Callable[[str], bool]:
    if spec.resources:
        return {f"{RESOURCES}{name}.rcc" for name in spec.resources}.__contains__
    if spec.kind == "imagenet":
        return lambda path: path.startswith(IMAGENET)
    return is_stamp_file


def read_stamps(spec: PhotoSet, files: Mapping[str, bytes]) -> Iterator[Photo]:
    """Stamps that are bitmaps outside the excluded folders and have a caption."""
    for path in sorted(files):
        name = path.removeprefix(STAMPS).removesuffix(".png")
        text = files.get(path.removesuffix(".png") + ".txt")
        if not path.endswith(".png") or text is None or re.search(spec.exclude, name):
            continue
        folder = name.rpartition("/")[0]
        yield Photo(
            path=path,
            name=name.replace("/", "-"),
            caption=stamp_caption(text.decode("utf-8", "replace")),
            label=_label(spec, folder),
            category=folder,
        )


def _label(spec: PhotoSet, folder: str) -> str | None:
    """The class of a folder or of the nearest one above that has one."""
    matching = (label for at, label in spec.classes.items() if f"{folder}/".startswith(f"{at}/"))
    return next(matching, None)


def read_imagenet(spec: PhotoSet, files: Mapping[str, bytes]) -> Iterator[Photo]:
    """Images named `imagenet_NUMBER_CLASS`, their classes named by the recipe."""
    for path in sorted(files):
        match = re.search(r"imagenet_(\d+)_(\d+)\.", path)
        if match is None:
            continue
        number, code = match.groups()
        if code not in spec.classes:
            raise DataError(f"{path}: the recipe does not name ImageNet class {code}")
        label = spec.classes[code]
        yield Photo(path=path, name=f"{number}-{code}", caption=label, label=label, category=code)


def read_gcompris(spec: PhotoSet, files: Mapping[str, bytes]) -> Iterator[Photo]:
    """Images of GCompris activities, named by a board or by their own file name.

    Raises DataError when an expression of `captions` fits no image.
    """
    board_photos = {photo.path: photo for photo in read_boards(files)}
    credits = read_credits(files)
    unused = set(spec.captions)
    for path in sorted(board_photos if spec.kind == "boards" else files):
        match = re.search(r"/resource/(?:images/)?([^/]+/[^/]+)\.webp$", path)
        if match is None or re.search(spec.exclude, match[1]):
            continue
        folder, _, stem = match[1].partition("/")
        photo = board_photos.get(path)
        caption = _caption(spec, stem, photo.title if photo else None)
        expression = next((e for e in spec.captions if re.fullmatch(e, match[1])), None)
        if expression is not None:
            unused.discard(expression)
            caption = spec.captions[expression]
        credit = credits.get(path, Credit(licence=spec.licence, author="", address=""))
        # The sentences are part of the program's text, whatever the image's licence is.
        licences = [credit.licence, *([spec.licence] if photo and photo.texts else [])]
        yield Photo(
            path=path,
            name=f"{folder}-{stem}",
            caption=caption,
            label=_label(spec, folder),
            category=folder,
            texts=photo.texts if photo else (),
            licence=" AND ".join(dict.fromkeys(licences)),
            attribution=credit.line or None,
        )
    if unused:
        raise DataError(f"captions: no image is named {sorted(unused)[0]!r}")


def _caption(spec: PhotoSet, stem: str, title: str | None) -> str:
    """A title without article, or a file name as words: `measuringTape2` -> `measuring tape`."""
    if title is None:
        return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", stem.rstrip("0123456789")).lower()
    caption = stamp_caption(title)
    return caption[:1].lower() + caption[1:] if spec.common_nouns else caption


READERS: Mapping[str, Callable[[PhotoSet, Mapping[str, bytes]], Iterator[Photo]]] = {
    "stamps": read_stamps,
    "imagenet": read_imagenet,
    "boards": read_gcompris,
    "categories": read_gcompris,
}
"""Kind of set -> the reader of its package."""


def _sample(photo: Photo, png: bytes, name: str, spec: PhotoSet, package: PackageSpec) -> Sample:
    meta = {
        "caption": photo.caption,
        "captions": alternatives(photo.caption, photo.texts, []),
        "keywords": [],
        "name": photo.name,
        "set": name,
        "style": "photo",
        "codepoint": None,
        "group": None,
        "category": photo.category,
        "class": photo.label,
        "licence": photo.licence or spec.licence,
        "attribution": photo.attribution,
        "source": f"{package.label}/{photo.path}",
    }
    return Sample(key=f"{name}__{photo.name}".replace(".", "_"), png=png, meta=meta)
