"""One collection of images, good and bad, in every kind of input that an export reads.

A new input needs a writer here. `WRITERS` has one for each name of INPUTS, and a test says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow
from pyarrow import parquet

from tests.cases.collection_files import (
    bytes_until,
    image,
    more_images,
    write_arrow_file,
    write_arrow_stream,
    write_damaged_parquet,
    write_file,
    write_links,
    write_parquet,
    write_tar,
)

LARGE = 8 * 2**20 + 1
"""One byte more than an image may have."""


class CollectionCase(NamedTuple):
    """An image of a collection, and what becomes of it in every kind of input."""

    name: str
    """As `os` gives the names of files."""
    data: bytes
    reason: str = ""
    """That of its quarantine; empty for one that becomes a row."""
    kind: str = "K2"
    id: str = ""
    """Where it is not the name."""


CASES = (
    CollectionCase("good.png", image(1)),
    CollectionCase("photo.JPG", image(2, "JPEG")),
    CollectionCase("v1.2.final.png", image(3)),
    CollectionCase("below/one.webp", image(4, "WEBP")),
    CollectionCase("caf\udce9.png", image(5), id=r"caf\xe9.png"),
    CollectionCase("two\nlines.png", image(6)),
    CollectionCase("a\u2028b.png", image(7), kind="K7"),
    CollectionCase(r"back\xslash.png", image(8), id=r"back\x5cxslash.png"),
    CollectionCase("猫 #1 [x]*?.jpeg", image(9, "JPEG")),
    CollectionCase("moving.gif", image(10, "GIF")),
    CollectionCase("photo.AVIF", image(13, "AVIF"), "image: unsupported image: AVIF"),
    CollectionCase("scan.TIF", image(11, "TIFF"), "image: unsupported image: TIFF"),
    CollectionCase("page.jpg", b"<html>", "image: unsupported image"),
    CollectionCase("cut.png", image(12)[:200], "image: truncated or corrupt", "K3"),
    CollectionCase("empty.png", b"", "image: must not be empty", "K6"),
    CollectionCase(
        "large.jpg", bytes(LARGE), f"image: {LARGE} bytes is over the limit of {LARGE - 1}", "K4"
    ),
)


@dataclass
class WrittenInput:
    """An input, and what an export must make of it."""

    source: Path
    kind: str
    ids: dict[str, str]
    """The ids of CASES by name. A case that this kind of input cannot hold has none."""
    arguments: list[str] = field(default_factory=list)
    expected: dict[str, str] = field(default_factory=dict)
    """The reason of every other entry by its id; empty for one that becomes a row."""
    left_out: dict[str, int] = field(default_factory=dict)

    def outcome(self) -> dict[str, str]:
        """The reason of every entry, empty for a row, by id."""
        reasons = {case.name: case.reason for case in CASES}
        return {id: reasons[name] for name, id in self.ids.items()} | self.expected


def _ids(pattern: str = "{}") -> dict[str, str]:
    return {case.name: pattern.format(case.id or case.name) for case in CASES}


def write_folder(path: Path) -> WrittenInput:
    """Files, and what else a folder may hold."""
    for case in CASES:
        write_file(path / case.name, case.data)
    outside = path.parent / "outside"
    write_file(outside / "linked.png", image(20))
    (path / "link").symlink_to(outside)
    (path / "link again").symlink_to(outside)
    (outside / "loop").symlink_to(path)
    (path / "below" / "up").symlink_to(path)
    (path / "self.png").symlink_to("self.png")
    (path / "broken.png").symlink_to("gone.png")
    os.mkfifo(path / "fifo.jpg")
    (path / "null.png").symlink_to("/dev/null")
    (path / "folder.png").mkdir()
    for name in ("notes.txt", "more.TXT", "README", ".hidden", "data.unknown-and-long-ending"):
        write_file(path / name, b"x")
    return WrittenInput(
        source=path,
        kind="folder",
        ids=_ids(),
        expected={
            "link again/linked.png": "",
            "self.png": "cannot be read",
            "broken.png": "not found",
            "fifo.jpg": "not a file",
            "null.png": "not a file",
        },
        left_out={".txt": 2, "no ending": 3, "links to folders that are read already": 3},
    )


def write_webdataset(path: Path) -> WrittenInput:
    """A tar file of the cases, and others that are damaged."""
    members = [(case.name, case.data) for case in CASES]
    write_tar(path / "0.TAR", [*members, ("good.png", image(21)), ("good.json", b"{}")])
    (path / "empty.tar").write_bytes(b"")
    whole = write_tar(path / "cut.tar", [(f"{number}.png", image(number)) for number in range(3)])
    (path / "cut.tar").write_bytes(whole[: len(bytes_until(whole, b"2.png")) + 600])
    damaged = bytearray(write_tar(path / "header.tar", [(f"{n}.png", image(n)) for n in range(4)]))
    start = damaged.index(b"1.png")
    damaged[start : start + 100] = b"\x07" * 100
    (path / "header.tar").write_bytes(damaged)
    end = damaged.index(b"2.png")
    (path / "no.tar").write_bytes(b"no tar file" * 100)
    write_tar(
        path / "deep/packed.tar.gz", [("a.png", image(22)), ("b.png", image(23))], packed=True
    )
    packed = write_tar(path / "half.tgz", [(f"{n}.png", image(n)) for n in range(3)], packed=True)
    (path / "half.tgz").write_bytes(packed[: len(packed) * 2 // 3])
    hole = bytearray(write_tar(path / "hole.tar", [(f"{n}.png", image(n)) for n in range(3)]))
    hole_start, hole_end = hole.index(b"1.png"), hole.index(b"2.png")
    hole[hole_start:hole_end] = bytes(hole_end - hole_start)
    (path / "hole.tar").write_bytes(hole)
    two = [write_tar(path / "two.tar", [(f"{n}.png", image(n))]) for n in range(2)]
    (path / "two.tar").write_bytes(two[0] + two[1])
    (path / "zeros.tar").write_bytes(two[0] + bytes(2**20))
    os.mkfifo(path / "fifo.tar")
    write_file(path / "notes.md", b"x")
    write_links(path / "links.tar")
    return WrittenInput(
        source=path,
        kind="webdataset",
        ids=_ids("0.TAR/{}"),
        expected={
            "0.TAR/good.png#2": "",
            "empty.tar": "empty",
            "cut.tar/0.png": "",
            "cut.tar/1.png": "",
            "cut.tar/2.png": "cut short",
            "header.tar/0.png": "",
            f"header.tar:{start}:{end}": (
                f"no tar header: {end - start} bytes from {start} on were skipped"
            ),
            "header.tar/2.png": "",
            "header.tar/3.png": "",
            "no.tar:0:1100": "no tar header: 1100 bytes from 0 on were skipped",
            "deep/packed.tar.gz/a.png": "",
            "deep/packed.tar.gz/b.png": "",
            "half.tgz/0.png": "",
            "hole.tar/0.png": "",
            f"hole.tar:{hole_start}:{hole_end}": (
                f"{hole_end - hole_start} zero bytes from {hole_start} on in place of members"
            ),
            "hole.tar/2.png": "",
            "two.tar/0.png": "",
            "two.tar/1.png": "",
            "zeros.tar/0.png": "",
            "zeros.tar:2560:1058816": ("1056256 zero bytes from 2560 on in place of members"),
            "fifo.tar": "not a file",
            "links.tar/link.png": "not a file",
        },
        left_out={".json": 1, ".md": 1},
    )


def write_table(path: Path) -> WrittenInput:
    """A Parquet file of the cases with its ids, and other tables beside it."""
    path.mkdir()
    keys = list(_ids().values())
    images = [case.data for case in CASES]
    write_parquet(
        path / "0.PARQUET", [*keys, "good.png", None, "", "none"], [*images, *more_images(3), None]
    )
    whole = write_parquet(path / "1.parquet", ["x"], more_images(1))
    (path / "1.parquet").write_bytes(whole[:-20])
    parquet.write_table(pyarrow.table({"key": ["y"], "other": ["y"]}), path / "2.parquet")
    parquet.write_table(pyarrow.table({"key": ["z"], "image": ["text"]}), path / "3.parquet")
    write_damaged_parquet(path / "4.parquet")
    (path / "5.arrow").write_bytes(b"")
    structs = [{"bytes": image(30), "path": "x"}, {"bytes": None, "path": "y"}]
    write_arrow_stream(path / "6.arrow", ["s0", "s1"], pyarrow.array(structs))
    views = pyarrow.array([image(31), image(32)], pyarrow.binary_view())
    write_arrow_stream(path / "7.arrow", ["s2", "s3"], views, end=-200)
    large = pyarrow.array([image(33)], pyarrow.large_binary())
    write_arrow_file(path / "8.feather", pyarrow.table({"key": ["f0"], "image": large}))
    packed = pyarrow.array([image(34), image(34)]).dictionary_encode()
    write_arrow_stream(path / "9.ipc", ["d0", "d1"], packed)
    write_file(path / "state.json", b"{}")
    return WrittenInput(
        source=path,
        kind="table",
        ids=_ids(),
        arguments=["--column", "image", "--id-column", "key"],
        expected={
            "good.png#2": "",
            f"0.PARQUET:{len(CASES) + 1}": "",
            f"0.PARQUET:{len(CASES) + 2}": "",
            "none": "image: must not be empty",
            "1.parquet": "not a table",
            "2.parquet": "has no column image; its columns are key, other, its rows 1",
            "3.parquet": "column image is of another type",
            "p0": "",
            "p1": "cannot be read",
            "p2": "",
            "5.arrow": "empty",
            "s0": "",
            "s1": "no bytes, only a path",
            "s2": "",
            "7.arrow": "cut short after 1 rows",
            "f0": "",
            "d0": "",
            "d1": "",
        },
        left_out={".json": 1},
    )


def write_list(path: Path) -> WrittenInput:
    """A list of the files, in the words that Windows and editors put into one."""
    lines = [b"\xef\xbb\xbfgood.png", b"first\tgood.png", b"good.png", b"", b"  ", b"\tgood.png"]
    for case in CASES:
        write_file(path / "images" / case.name, case.data)
    names = [case.name for case in CASES if "\n" not in case.name and case.name != "good.png"]
    lines += [os.fsencode(f"{name}\timages/{name}") for name in names]
    write_file(path / "good.png", image(1))
    (path / "folder").mkdir()
    os.mkfifo(path / "fifo")
    lines += [b"gone.png", b"http://localhost/x.png", b"x" * 100_000, b"folder", b"fifo", b"id\t"]
    (path / "list.txt").write_bytes(b"\r\n".join(lines))
    ids = {name: id for name, id in _ids().items() if "\n" not in name}
    number = len(lines)
    return WrittenInput(
        source=path / "list.txt",
        kind="list",
        ids=ids,
        expected={
            "first": "",
            "good.png#2": "",
            "good.png#3": "",
            "gone.png": "not found",
            "http://localhost/x.png": (
                f"line {number - 4}: http://: not a file system that an export reads or writes"
            ),
            f"list.txt:{number - 3}": f"line {number - 3}: more than 65536 bytes",
            "folder": "not a file",
            "fifo": "not a file",
            "id": f"line {number}: no path",
        },
        left_out={"blank lines": 2},
    )


WRITERS: dict[str, Callable[[Path], WrittenInput]] = {
    "folder": write_folder,
    "webdataset": write_webdataset,
    "table": write_table,
    "list": write_list,
}
