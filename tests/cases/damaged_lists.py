"""Damage to folders of images: with a list of captions, with a caption file each, by class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tests.cases.damage import Damage
from tests.cases.pairs import (
    NO_IMAGE,
    PNG,
    write_csv,
)


def write_rows(folder: Path, rows: Sequence[Sequence[str]], name: str = "metadata.csv") -> None:
    (folder / "a.png").write_bytes(PNG)
    write_csv(folder / name, rows, "\t" if name.endswith(".tsv") else ",")


def write_lines(folder: Path, *lines: bytes) -> None:
    (folder / "a.png").write_bytes(PNG)
    (folder / "metadata.jsonl").write_bytes(b"\n".join(lines))


def _fifo(folder: Path) -> None:
    write_rows(folder, [["file_name", "text"], ["a.png", "a red dot"], ["pipe.png", "a dot"]])
    os.mkfifo(folder / "pipe.png")


def _link_to_itself(folder: Path) -> None:
    write_rows(folder, [["file_name", "text"], ["a.png", "a"], ["loop.png", "a"]])
    (folder / "loop.png").symlink_to("loop.png")


def _caption_files(folder: Path) -> None:
    for name in "abcd":
        (folder / f"{name}.png").write_bytes(PNG)
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_bytes(bytes(2**20 + 1))
    (folder / "c.txt").symlink_to("nothing")
    os.mkfifo(folder / "d.txt")


GOOD_LINE = b'{"file_name": "a.png", "text": "a red dot"}'

LISTS: dict[str, Damage] = {
    "list: CSV": (lambda f: write_rows(f, [["file_name", "text"], ["a.png", "a"]]), 1, {}, {}),
    "list: open_clip's columns": (
        lambda f: write_rows(f, [["filepath", "title"], ["a.png", "a"]], "metadata.tsv"),
        1,
        {},
        {},
    ),
    "list: paths that lead out": (
        lambda f: write_rows(
            f,
            [["file_name", "text"], ["a.png", "a"], ["../a.png", "a"], ["/etc/passwd", "a"]],
        ),
        1,
        {"the image's path leads out of the folder": 2},
        {},
    ),
    "list: a URL, a missing file, no path": (
        lambda f: write_rows(
            f, [["file_name", "text"], ["http://a/a.png", "a"], ["b.png", "a"], ["", "a"]]
        ),
        0,
        {"the image is not found": 2, NO_IMAGE: 1},
        {},
    ),
    "list: a short row": (
        lambda f: write_rows(f, [["file_name", "text"], ["a.png"], ["a.png", "a"]]),
        1,
        {"the row has 1 cells, the header 2": 1},
        {},
    ),
    "list: a pipe": (_fifo, 1, {"the image is not a file": 1}, {}),
    "list: damaged lines": (
        lambda f: write_lines(f, b"{", b"[]", GOOD_LINE, b'{"a": 1}', b"", b"\xff"),
        1,
        {"not JSON": 2, "the JSON is not an object": 1, NO_IMAGE: 1},
        {},
    ),
    "list: a mark at its start": (lambda f: write_lines(f, b"\xef\xbb\xbf" + GOOD_LINE), 1, {}, {}),
    "list: in subfolders": (
        lambda f: [((f / n).mkdir(), write_lines(f / n, GOOD_LINE)) for n in "xy"] and None,
        2,
        {},
        {},
    ),
    "list: a quote that is not closed": (
        lambda f: (
            (f / "a.png").write_bytes(PNG),
            (f / "metadata.csv").write_text('file_name,text\na.png,a\na.png,"a\na.png,a\n'),
        )[0],
        1,
        {"not a row of CSV": 1},
        {},
    ),
    "list: a link to itself": (_link_to_itself, 1, {"cannot be read": 1}, {}),
    "list: a line without end": (
        lambda f: write_lines(f, GOOD_LINE, b'{"a": "' + b"x" * 2**23, GOOD_LINE),
        2,
        {"not JSON": 1},
        {},
    ),
    "files: an ending in both cases": (
        lambda f: (
            [(f / name).write_bytes(PNG) for name in ("a.png", "a.PNG")]
            and (f / "a.txt").write_text("a")
        ),
        1,
        {"the key repeats": 1},
        {},
    ),
    "files: captions that are not read": (
        _caption_files,
        1,
        {
            "the caption is too large": 1,
            "the caption is not found": 1,
            "the caption is not a file": 1,
        },
        {},
    ),
    "classes: an image without a class": (
        lambda f: [
            (f / "cat").mkdir(),
            (f / "cat" / "a.png").write_bytes(PNG),
            (f / "b.png").write_bytes(PNG),
        ][0],
        1,
        {"no folder that names its class": 1},
        {},
    ),
}
