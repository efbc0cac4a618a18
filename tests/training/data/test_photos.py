"""GCompris photographs: a whole build from a hand-made package, and what it refuses."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from tests.training.data.test_rcc import Tree, qcompress, resource
from training.data.data_recipe import DataError, PackageSpec, find_recipe
from training.data.photos import PhotoRecipe, PhotoSet, build_photos, load_photo_recipe
from training.data.rcc import FOLDER, ZLIB
from training.data.shards import read_split

ZOO = "gcompris/src/activities/zoo/resource/"
SORT = "gcompris/src/activities/sort/resource/images/"

BOARD = """
QtObject {
    property var tab : [
        {
            "image": "qrc:/gcompris/src/activities/zoo/resource/key.svg",
            "title": qsTr("The Polar bear"),
            "text": qsTr("It weighs up to a \\"ton\\"!"),
            "image2": "qrc:/gcompris/src/activities/zoo/resource/animals/polar_bear.webp",
            "text2": qsTr("Polar bear"),
            "x": 0.5
        },
        {
            "title": qsTr("Fox"),
            "image2": "qrc:/gcompris/src/activities/zoo/resource/animals/fox.webp"
        }
    ]
    property var instructions : [ { "text": qsTr("Click on it.") } ]
}
"""

CREDITS = """Copyright: Ann Example
License: CC0-1.0
Source: https://example.org/bear
Files:
polar_bear.webp

Copyright: Someone
License: GPLv3
Files:
fox.ogg
"""

TOOLS = "Copyright: Bo\nSource: https://example.org/t\nLicense: {}\nFiles:\nplier1.webp\n"


def image(colour: str) -> bytes:
    """A WebP of one colour, twice as wide as tall."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 16), colour).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def rcc(files: dict[str, bytes]) -> bytes:
    """A resource file that holds these paths."""
    levels: list[str] = [""]
    tree: Tree = []
    for at in levels:
        below = [path for path in files if path.startswith(at) and path != at]
        heads = [path[len(at) :].partition("/") for path in below]
        children = list(dict.fromkeys(f"{at}{name}{slash}" for name, slash, _ in heads))
        name = at.rstrip("/").rpartition("/")[2]
        if at in files:
            tree.append((name, ZLIB, 0, list(files).index(at)))
        else:
            tree.append((name, FOLDER, len(children), len(levels)))
            levels.extend(children)
    return resource(tree, [qcompress(content) for content in files.values()])


def package(credits: str = CREDITS, tools: str = TOOLS.format("Public Domain")) -> bytes:
    """An archive with two activities; a wheel, as it needs no client to read."""
    zoo = {
        f"{ZOO}board/board1.qml": BOARD.encode(),
        f"{ZOO}animals/README": credits.encode(),
        f"{ZOO}animals/polar_bear.webp": image("white"),
        f"{ZOO}animals/fox.webp": image("orange"),
    }
    sort = {
        f"{SORT}tools/README": tools.encode(),
        f"{SORT}tools/plier1.webp": image("red"),
        f"{SORT}tools/measuringTape2.webp": image("yellow"),
        f"{SORT}tools/background.svg": b"<svg/>",
        f"{SORT}others/cup.webp": image("blue"),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, files in {"zoo": zoo, "sort": sort, "more": {"x": b"x"}}.items():
            archive.writestr(f"usr/share/gcompris-qt/rcc/{name}.rcc", rcc(files))
    return buffer.getvalue()


def recipe(cache: Path, content: bytes) -> PhotoRecipe:
    """A recipe whose only package lies in the cache already."""
    cached = cache / "pip" / "gcompris-1.whl"
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    zoo = PhotoSet(
        package="p",
        kind="boards",
        licence="GPL-3.0-or-later",
        resources=("zoo",),
        common_nouns=True,
    )
    sort = PhotoSet(
        package="p",
        kind="categories",
        licence="GPL-3.0-or-later",
        resources=("sort",),
        exclude="^others/",
        classes={"tools": "tool"},
        captions={r"tools/plier\d": "pliers"},
    )
    return PhotoRecipe(
        schema=1,
        name="tiny",
        kind="photos",
        render_px=16,
        samples_per_shard=1,
        packages={"p": PackageSpec(manager="pip", name="gcompris", version="1", sha256=sha256)},
        sets={"animals": zoo, "categories": sort},
        sha256="0" * 64,
    )


def build(tiny: PhotoRecipe, tmp_path: Path) -> dict[str, Any]:
    """Build into `out`."""
    return build_photos(tiny, tmp_path / "out", tmp_path / "cache")


def test_boards_give_titles_sentences_licences_and_credits(tmp_path: Path) -> None:
    build(recipe(tmp_path / "cache", package()), tmp_path)
    fox, bear = (sample.meta for sample in read_split(tmp_path / "out", "animals"))
    assert bear["captions"] == ["polar bear", 'It weighs up to a "ton"!']
    assert bear["licence"] == "CC0-1.0 AND GPL-3.0-or-later"
    assert bear["attribution"] == "Ann Example, https://example.org/bear"
    assert bear["source"] == f"pip:gcompris@1/{ZOO}animals/polar_bear.webp"
    assert (bear["style"], bear["category"], bear["class"]) == ("photo", "animals", None)
    assert fox["captions"] == ["fox"]
    assert (fox["licence"], fox["attribution"]) == ("GPL-3.0-or-later", None)


def test_categories_give_names_and_classes(tmp_path: Path) -> None:
    build(recipe(tmp_path / "cache", package()), tmp_path)
    tape, pliers = read_split(tmp_path / "out", "categories")
    assert (tape.meta["caption"], tape.meta["class"]) == ("measuring tape", "tool")
    assert pliers.meta["captions"] == ["pliers"]
    assert pliers.meta["licence"] == "LicenseRef-Public-Domain"
    assert pliers.key == "categories__tools-plier1"
    with Image.open(io.BytesIO(pliers.png)) as image:
        assert (image.size, image.mode) == ((16, 16), "RGBA")
        assert image.getpixel((8, 8)) == (255, 0, 0, 255)
        assert image.getpixel((8, 1)) == (0, 0, 0, 0)


def test_a_second_build_writes_only_what_is_lost(tmp_path: Path) -> None:
    tiny = recipe(tmp_path / "cache", package())
    first = build(tiny, tmp_path)
    lost = tmp_path / "out" / "animals-00001.tar"
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    lost.unlink()
    assert build(tiny, tmp_path) == first
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    assert len(before) == 4
    assert {name for name in before if before[name] != after[name]} == {lost.name}


def test_an_unknown_licence_is_refused(tmp_path: Path) -> None:
    tiny = recipe(tmp_path / "cache", package(tools=TOOLS.format("Ask me")))
    with pytest.raises(DataError, match=r"tools/README: unknown licence 'Ask me'$"):
        build(tiny, tmp_path)


def test_a_caption_for_no_image_is_refused(tmp_path: Path) -> None:
    tiny = recipe(tmp_path / "cache", package())
    wrong = dataclasses.replace(tiny.sets["categories"], captions={"tools/saw": "saw"})
    with pytest.raises(DataError, match=r"captions: no image is named 'tools/saw'$"):
        build(dataclasses.replace(tiny, sets={"categories": wrong}), tmp_path)


def test_an_activity_that_the_package_lacks_is_refused(tmp_path: Path) -> None:
    tiny = recipe(tmp_path / "cache", package())
    wrong = dataclasses.replace(tiny.sets["animals"], resources=("zoo", "aquarium"))
    with pytest.raises(DataError, match=r"pip:gcompris@1: no resource aquarium\.rcc$"):
        build(dataclasses.replace(tiny, sets={"animals": wrong}), tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("package", "gcompri", "set animals: unknown package 'gcompri' .did you mean 'gcompris'"),
        ("resources", [], "set animals: resources do not suit boards"),
        ("kind", "bords", "photos.yaml: sets.animals.kind: must be one of stamps, imagenet"),
        ("clases", {}, "photos.yaml: sets.animals.clases: unknown key; did you mean classes"),
    ],
)
def test_a_wrong_set_is_named(tmp_path: Path, key: str, value: object, message: str) -> None:
    raw = yaml.safe_load(find_recipe("photos").read_text("utf-8"))
    raw["sets"]["animals"][key] = value
    path = tmp_path / "photos.yaml"
    path.write_text(json.dumps(raw), "utf-8")
    with pytest.raises(DataError, match=message):
        load_photo_recipe(path)
