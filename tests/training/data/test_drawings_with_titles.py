"""Drawings that bring their own words: Open Clip Art's titles, Tux Paint's sentences."""

from __future__ import annotations

from training.data.data_recipe import PackageSpec, SetSpec
from training.data.english import EnglishWords
from training.data.icons import Drawing, Dropped
from training.data.openclipart import ROOT, read_openclipart
from training.data.stamps import STAMPS, read_stamp_drawings

PACKAGE = PackageSpec(manager="deb", name="clips", version="1", sha256="0")
ENGLISH = EnglishWords(frozenset({"red", "lamp", "oil", "animal"}))


def clip(title: str, *tags: str) -> bytes:
    """A drawing of Open Clip Art in the public domain."""
    bag = "".join(f"<rdf:li>{tag}</rdf:li>" for tag in tags)
    licence = '<cc:license rdf:resource="http://web.resource.org/cc/PublicDomain"/>'
    return f"<svg><metadata><dc:title>{title}</dc:title>{bag}{licence}</metadata></svg>".encode()


def test_titles_and_tags_in_other_languages_are_left_out() -> None:
    spec = SetSpec(package="clips", kind="openclipart", licence="CC-PDDC", role="train")
    files = {
        f"{ROOT}a/lamp.svg": clip("Red Lamp", "lampada", "animal"),
        f"{ROOT}a/lampada.svg": clip("Lampada di Aladino", "lamp"),
        f"{ROOT}a/twice.svg": clip("Oil&amp;#39;s lamp"),
        f"{ROOT}a/theme.svg": clip("Icon theme"),
    }
    found = list(read_openclipart("clips", spec, PACKAGE, files, ENGLISH))
    used = {d.name: d for d in found if isinstance(d, Drawing)}
    assert set(used) == {"a-lamp", "a-twice"}
    assert used["a-lamp"].keywords == ("animal",)
    assert used["a-twice"].caption == "Oil's lamp"
    assert {d.name: d.reason for d in found if isinstance(d, Dropped)} == {
        "a/lampada": "title is not English",
        "a/theme": "no meaningful title",
    }


def test_stamps_are_chosen_by_folder_and_drawn_once() -> None:
    spec = SetSpec(
        package="clips", kind="stamps", licence="GPL-2.0-only", role="foreign", only="cartoon"
    )
    files = {
        f"{STAMPS}food/cartoon/pear.png": b"png",
        f"{STAMPS}food/cartoon/pear.svg": b"<svg/>",
        f"{STAMPS}food/cartoon/pear.txt": b"A green pear. It is ripe.\nfr.utf8=Une poire\n",
        f"{STAMPS}food/cartoon/untold.png": b"png",
        f"{STAMPS}food/cartoon/tux.png": b"png",
        f"{STAMPS}food/cartoon/tux.txt": b"Tux the penguin sits on a tractor.",
        f"{STAMPS}food/photo.png": b"png",
        f"{STAMPS}food/photo.txt": b"A photograph.",
    }
    found = list(read_stamp_drawings("cartoons", spec, PACKAGE, files))
    assert [type(entry) for entry in found] == [Dropped, Drawing, Dropped]
    drawing = found[1]
    assert isinstance(drawing, Drawing)
    assert (drawing.name, drawing.caption) == ("food-cartoon-pear", "green pear")
    assert drawing.content == b"<svg/>"
    assert drawing.source == f"deb:clips@1/{STAMPS}food/cartoon/pear.svg"
