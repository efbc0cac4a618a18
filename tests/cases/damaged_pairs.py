"""Damage to the files of one kind of source: what is good, and what is said of the rest."""

from __future__ import annotations

import gzip
import os
import struct
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from tests.cases.pairs import (
    BLANK,
    NO_CAPTION,
    NO_IMAGE,
    NOT_TEXT,
    NOT_UTF8,
    PNG,
    WrittenPair,
    image_table,
    pair_files,
    write_csv,
    write_stream,
    write_tar,
)


def shard(*pairs: WrittenPair) -> list[tuple[str, bytes]]:
    return [file for pair in pairs for file in pair_files(pair)]


A, B, C = (WrittenPair(name=name) for name in "abc")


def _json(folder: Path, content: bytes) -> None:
    write_tar(folder / "0.tar", [*shard(A), ("x.png", PNG), ("x.json", content)])


def cut_shard(folder: Path, kept: float) -> None:
    write_tar(folder / "0.tar", shard(A, B))
    write_tar(folder / "1.tar", shard(A, B, C))
    data = (folder / "1.tar").read_bytes()
    end = data.rindex(b"a red dot") + 512  # behind it are zeros only
    (folder / "1.tar").write_bytes(data[: int(end * kept)] if kept < 1 else data)


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


def write_rows(folder: Path, rows: Sequence[Sequence[str]], name: str = "metadata.csv") -> None:
    (folder / "a.png").write_bytes(PNG)
    write_csv(folder / name, rows, "\t" if name.endswith(".tsv") else ",")


def _fifo(folder: Path) -> None:
    write_rows(folder, [["file_name", "text"], ["a.png", "a red dot"], ["pipe.png", "a dot"]])
    os.mkfifo(folder / "pipe.png")


def write_lines(folder: Path, *lines: bytes) -> None:
    (folder / "a.png").write_bytes(PNG)
    (folder / "metadata.jsonl").write_bytes(b"\n".join(lines))


def _table_files(folder: Path, *damaged: bytes) -> None:
    parquet.write_table(image_table([A, B]), folder / "0.parquet")
    for i, content in enumerate(damaged, 1):
        (folder / f"{i}.parquet").write_bytes(content)


def _stream(folder: Path, cut: int) -> None:
    write_stream(folder / "0.arrow", image_table([A, B, C]), rows=1)
    data = (folder / "0.arrow").read_bytes()
    (folder / "0.arrow").write_bytes(data[: len(data) - cut])


def _pipe_table(folder: Path) -> None:
    _table_files(folder)
    os.mkfifo(folder / "1.parquet")


def _other_columns(folder: Path) -> None:
    _table_files(folder)
    parquet.write_table(pa.table({"a": [1]}), folder / "a.parquet")


def _bad_text(folder: Path) -> None:
    texts = pa.array([b"a", b"caf\xe9", b"b"])
    images = pa.array([PNG, PNG, PNG])
    table = pa.table({"image": images, "text": texts.view(pa.string())})
    write_stream(folder / "0.arrow", table, rows=3)


def _bad_offsets(folder: Path) -> None:
    """A text that ends a gigabyte behind its buffer: reading it would end the process."""
    offsets = pa.py_buffer(struct.pack("<4i", 0, 1, 2**30, 2))
    texts = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"ab")])
    table = pa.table({"image": pa.array([PNG, PNG, PNG]), "text": texts})
    write_stream(folder / "0.arrow", table, rows=3)


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


def _dates(folder: Path) -> None:
    """Captions that are no texts, the first of a year that Python does not have."""
    dates = pa.array([2**30, 1], pa.date32())
    parquet.write_table(pa.table({"image": [PNG, PNG], "text": dates}), folder / "0.parquet")


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

Write = Callable[[Path], None]

DAMAGED: dict[str, tuple[Write, int, dict[str, int], dict[str, str]]] = {
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
    "table: damaged beside a good one": (
        lambda f: _table_files(f, b"PAR1", b""),
        2,
        {},
        {"1.parquet": "not a table", "2.parquet": "not a table"},
    ),
    "table: a pipe": (_pipe_table, 2, {}, {"1.parquet": "not a file"}),
    "table: other columns beside": (
        _other_columns,
        2,
        {},
        {"a.parquet": "not the columns of a pair"},
    ),
    "table: text that is not UTF-8": (_bad_text, 2, {"cannot be read": 1}, {}),
    "table: offsets that lead out": (_bad_offsets, 1, {"cannot be read": 2}, {}),
    "list: a quote that is not closed": (
        lambda f: (
            (f / "a.png").write_bytes(PNG),
            (f / "metadata.csv").write_text('file_name,text\na.png,a\na.png,"a\na.png,a\n'),
        )[0],
        1,
        {"not a row of CSV": 1},
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
    "tar: a long header of pax": (lambda f: _pax(f, 2**30), 2, {}, {"0.tar": "damaged"}),
    "tar: headers without end": (lambda f: _pax(f, 14, 2000), 1, {}, {"0.tar": "damaged"}),
    "table: dates for captions": (_dates, 0, {"cannot be read": 1, NOT_TEXT: 1}, {}),
    "list: a link to itself": (_link_to_itself, 1, {"cannot be read": 1}, {}),
    "list: a line without end": (
        lambda f: write_lines(f, GOOD_LINE, b'{"a": "' + b"x" * 2**23, GOOD_LINE),
        2,
        {"not JSON": 1},
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
    "table: stream cut in a batch": (lambda f: _stream(f, 100), 2, {}, {"0.arrow": "damaged"}),
    "table: stream cut behind a batch": (lambda f: _stream(f, 8), 3, {}, {"0.arrow": "damaged"}),
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
