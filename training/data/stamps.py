"""Stamps of Debian's `tuxpaint-stamps-default`: a picture, and a sentence in a file beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from training.data.data_recipe import PackageSpec, SetSpec
from training.data.icons import Drawing, Dropped

STAMPS = "usr/share/tuxpaint/stamps/"
"""Where the stamps lie in the package."""

MAX_WORDS = 5
"""A longer caption tells a story of the stamp and does not name it."""


def is_stamp_file(path: str) -> bool:
    """Whether a member of the package is a stamp or its sentence."""
    return path.startswith(STAMPS) and path.endswith((".png", ".svg", ".txt"))


def stamp_caption(text: str) -> str:
    """`A brown hen.` -> `brown hen`: the first line without article, remark and full stop."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = re.sub(r"\s*\([^)]*\)|[“”]", "", line).rstrip(".! ")
    return re.sub(r"^(an?|the|some)\s+", "", line, flags=re.IGNORECASE)


def read_stamp_drawings(
    set_name: str, spec: SetSpec, package: PackageSpec, files: Mapping[str, bytes]
) -> Iterator[Drawing | Dropped]:
    """The stamps that `spec.only` chooses; of a stamp that is also an SVG, that one."""
    for path in sorted(files):
        stem = path.rpartition(".")[0]
        name = stem.removeprefix(STAMPS)
        text = files.get(f"{stem}.txt")
        if path.endswith(".txt") or text is None or not re.search(spec.only, name):
            continue
        if path.endswith(".png") and f"{stem}.svg" in files:
            yield Dropped(set=set_name, name=name, reason="also as SVG")
            continue
        caption = re.split(r"[.!?;\u2014] ?| - ", stamp_caption(text.decode("utf-8", "replace")))[0]
        if len(caption.split()) > MAX_WORDS:
            yield Dropped(set=set_name, name=name, reason="a sentence, not a name")
            continue
        yield Drawing(
            set=set_name,
            name=name.replace("/", "-"),
            source=f"{package.label}/{path}",
            licence=spec.licence,
            codepoint=None,
            category=name.rpartition("/")[0],
            content=files[path],
            caption=caption,
            trim=True,
        )
