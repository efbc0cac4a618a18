"""Damage to WebDataset shards."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

from tests.cases.damage import A, B, C, Damage, shard
from tests.cases.pairs import (
    BLANK,
    NO_CAPTION,
    NO_IMAGE,
    NOT_UTF8,
    PNG,
    WrittenPair,
    write_tar,
)


def cut_shard(folder: Path, kept: float) -> None:
    write_tar(folder / "0.tar", shard(A, B))
    write_tar(folder / "1.tar", shard(A, B, C))
    data = (folder / "1.tar").read_bytes()
    end = data.rindex(b"a red dot") + 512  # behind it are zeros only
    (folder / "1.tar").write_bytes(data[: int(end * kept)] if kept < 1 else data)


def _json(folder: Path, content: bytes) -> None:
    write_tar(folder / "0.tar", [*shard(A), ("x.png", PNG), ("x.json", content)])


def _damaged_header(folder: Path) -> None:
    write_tar(folder / "0.tar", shard(*(WrittenPair(name=f"{i}") for i in range(6))))
    data = bytearray((folder / "0.tar").read_bytes())
    at = data.index(b"3.png")
    data[at : at + 100] = b"\x07" * 100
    (folder / "0.tar").write_bytes(data)


def _link_member(folder: Path) -> None:
    write_tar(folder / "0.tar", shard(A))
    with tarfile.open(folder / "0.tar", "a") as tar:
        link = tarfile.TarInfo("x.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        text = tarfile.TarInfo("x.txt")
        tar.addfile(text)


def _packed(folder: Path, cut: int = 0) -> None:
    write_tar(folder / "0.tar", shard(A, B))
    packed = gzip.compress((folder / "0.tar").read_bytes(), mtime=0)
    (folder / "0.TAR.GZ").write_bytes(packed[: len(packed) - cut])
    (folder / "0.tar").unlink()


def _pax(folder: Path, size: int, number: int = 1) -> None:
    """Headers of pax that say a size, between two pairs."""
    write_tar(folder / "0.tar", shard(A, B))
    good = (folder / "0.tar").read_bytes()
    first, rest = good[:2048], good[2048:]
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, size
    content = b"14 path=a.png\n".ljust(512, b"\0")
    pax = (header.tobuf(tarfile.GNU_FORMAT) + content) * number
    (folder / "0.tar").write_bytes(first + pax + rest)


SHARDS: dict[str, Damage] = {
    "tar: a key again": (
        lambda f: write_tar(f / "0.tar", shard(A, A, B)),
        2,
        {"the key repeats": 1},
        {},
    ),
    "tar: a key again, later": (
        lambda f: write_tar(f / "0.tar", shard(A, B, A, C, A)),
        3,
        {"the key repeats": 2},
        {},
    ),
    "tar: cut in an image": (
        lambda f: cut_shard(f, 0.75),
        4,
        {NO_CAPTION: 1},
        {"1.tar": "cut short"},
    ),
    "tar: cut early": (lambda f: cut_shard(f, 0.05), 2, {}, {"1.tar": "cut short"}),
    "tar: of no bytes": (
        lambda f: (write_tar(f / "0.tar", shard(A)), (f / "1.tar").write_bytes(b""))[0],
        1,
        {},
        {"1.tar": "empty"},
    ),
    "tar: no tar": (
        lambda f: (write_tar(f / "0.tar", shard(A)), (f / "1.tar").write_bytes(b"x" * 2048))[0],
        1,
        {},
        {"1.tar": "damaged"},
    ),
    "tar: a damaged header": (_damaged_header, 5, {NO_IMAGE: 1}, {"0.tar": "damaged"}),
    "tar: of no members": (lambda f: write_tar(f / "0.tar", []), 0, {}, {}),
    "tar: in subfolders": (
        lambda f: [write_tar(f / name, shard(A)) for name in ("0/0.tar", "1/x/0.TAR")][0],
        2,
        {},
        {},
    ),
    "tar: packed": (_packed, 2, {}, {}),
    "tar: packed and cut": (lambda f: _packed(f, 8), 2, {}, {"0.TAR.GZ": "cut short"}),
    "tar: a link": (_link_member, 1, {BLANK: 1}, {}),
    "tar: a pair in a folder": (
        lambda f: write_tar(f / "0.tar", shard(WrittenPair(name="./x/a"), WrittenPair(name="y/a"))),
        2,
        {},
        {},
    ),
    "tar: hidden and foreign members": (
        lambda f: write_tar(f / "0.tar", [*shard(A), ("._a.png", b"x"), ("a.cls", b"3")]),
        1,
        {},
        {},
    ),
    "tar: a mask beside a pair": (
        lambda f: write_tar(f / "0.tar", [*shard(A), ("a.mask.png", PNG)]),
        1,
        {},
        {},
    ),
    "tar: an image alone": (
        lambda f: write_tar(f / "0.tar", [*shard(A), ("b.png", PNG)]),
        1,
        {NO_CAPTION: 1},
        {},
    ),
    "tar: JSON list": (lambda f: _json(f, b'["a"]'), 1, {"the JSON is not an object": 1}, {}),
    "tar: JSON null": (lambda f: _json(f, b"null"), 1, {"the JSON is not an object": 1}, {}),
    "tar: JSON number": (lambda f: _json(f, b"3"), 1, {"the JSON is not an object": 1}, {}),
    "tar: no JSON": (lambda f: _json(f, b"{"), 1, {"not JSON": 1}, {}),
    "tar: deep JSON": (lambda f: _json(f, b"[" * 100_000), 1, {"not JSON": 1}, {}),
    "tar: JSON NaN": (lambda f: _json(f, b'{"caption": NaN}'), 1, {NO_CAPTION: 1}, {}),
    "tar: JSON without captions": (lambda f: _json(f, b'{"a": 1}'), 1, {NO_CAPTION: 1}, {}),
    "tar: JSON surrogate": (
        lambda f: _json(f, b'{"caption": "\\ud800"}'),
        1,
        {NOT_UTF8: 1},
        {},
    ),
    "tar: text of Latin-1": (
        lambda f: write_tar(f / "0.tar", [*shard(A), ("x.png", PNG), ("x.txt", b"caf\xe9")]),
        1,
        {NOT_UTF8: 1},
        {},
    ),
    "tar: a long header of pax": (lambda f: _pax(f, 2**30), 2, {}, {"0.tar": "damaged"}),
    "tar: headers without end": (lambda f: _pax(f, 14, 2000), 1, {}, {"0.tar": "damaged"}),
}
