"""Qt resource files: hand-made ones are read, damaged ones are refused with a clear line."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import pytest

from training.data.rcc import FOLDER, ZLIB, ZSTD, RccError, read_rcc

Tree = list[tuple[str, int, int, int]]
"""Per node: name, flags, then children and first child, or locale and index into the data."""

TREE: Tree = [
    ("", FOLDER, 2, 1),
    ("images", FOLDER, 2, 3),
    ("note.txt", 0, 0, 0),
    ("été.png", ZLIB, 0, 1),
    ("empty", 0, 0, 2),
]
TEXT, IMAGE = b"plain text", b"image " * 40


def qcompress(content: bytes, claimed: int | None = None) -> bytes:
    """What Qt's qCompress makes: the length, then zlib data."""
    return struct.pack(">I", len(content) if claimed is None else claimed) + zlib.compress(content)


def resource(tree: Tree = TREE, data: list[bytes] | None = None, version: int = 3) -> bytes:
    """A resource file, laid out as Qt's `rcc` does: data, names, tree."""
    head = 24 if version >= 3 else 20
    stored = b""
    places = []
    for entry in [TEXT, qcompress(IMAGE), b""] if data is None else data:
        places.append(len(stored))
        stored += struct.pack(">I", len(entry)) + entry
    names, nodes = b"", b""
    for name, flags, first, second in tree:
        target = second if flags & FOLDER else places[second]
        nodes += struct.pack(">IHII", len(names), flags, first, target)
        nodes += bytes(8) if version >= 2 else b""
        names += struct.pack(">HI", len(name.encode("utf-16-be")) // 2, 0)
        names += name.encode("utf-16-be")
    sections = (head + len(stored) + len(names), head, head + len(stored))
    flags_word = struct.pack(">I", 0) if version >= 3 else b""
    return b"qres" + struct.pack(">4I", version, *sections) + flags_word + stored + names + nodes


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_tree_is_read_in_every_version(version: int) -> None:
    assert read_rcc(resource(version=version), "tiny.rcc") == {
        "images/été.png": IMAGE,
        "images/empty": b"",
        "note.txt": TEXT,
    }


def test_every_truncation_is_refused() -> None:
    whole = resource(version=1)
    for length in range(len(whole)):
        with pytest.raises(RccError, match=r"^tiny\.rcc: ") as caught:
            read_rcc(whole[:length], "tiny.rcc")
        assert "\n" not in str(caught.value)


def changed(node: int, flags: int, first: int, second: int, name: str | None = None) -> bytes:
    """The tiny resource with one node replaced."""
    tree = list(TREE)
    tree[node] = (tree[node][0] if name is None else name, flags, first, second)
    return resource(tree)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "magic": (lambda: b"rseq" + resource()[4:], "not a Qt resource"),
    "empty": (lambda: b"", "not a Qt resource"),
    "version": (lambda: b"qres" + struct.pack(">I", 4) + resource()[8:], "version 4"),
    "folder in itself": (lambda: changed(1, FOLDER, 1, 1), "node 1 is in the tree twice"),
    "root below": (lambda: changed(1, FOLDER, 1, 0), "node 0 is in the tree twice"),
    "shared child": (lambda: changed(1, FOLDER, 1, 2), "node 2 is in the tree twice"),
    "endless folder": (lambda: changed(1, FOLDER, 2**32 - 1, 3), "children past its end"),
    "root is a file": (lambda: changed(0, 0, 0, 0), "no root folder"),
    "one path twice": (lambda: changed(4, 0, 0, 2, "été.png"), "is in the tree twice"),
    "name with slash": (lambda: changed(2, 0, 0, 0, "../x"), "unusable name"),
    "parent folder": (lambda: changed(1, FOLDER, 2, 3, ".."), "unusable name"),
    "zstd": (lambda: changed(2, ZSTD, 0, 0), "packed with zstd"),
    "not zlib": (lambda: changed(2, ZLIB, 0, 0), "claims"),
    "damaged zlib": (
        lambda: resource(data=[TEXT, qcompress(IMAGE)[:4] + b"\0" * 20, b""]),
        "not valid zlib data",
    ),
    "cut zlib": (lambda: resource(data=[TEXT, qcompress(IMAGE)[:-6], b""]), "does not unpack"),
    "too little": (lambda: resource(data=[TEXT, qcompress(IMAGE, 999), b""]), "does not unpack"),
    "too much": (lambda: resource(data=[TEXT, qcompress(IMAGE, 9), b""]), "does not unpack"),
    "bomb": (
        lambda: resource(data=[TEXT, qcompress(IMAGE, 2**32 - 1), b""]),
        "claims 4294967295",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_damaged_resource_is_refused(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(RccError, match=message) as caught:
        read_rcc(make(), "tiny.rcc")
    assert str(caught.value).startswith("tiny.rcc: ")
    assert "\n" not in str(caught.value)
