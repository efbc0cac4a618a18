"""The files inside Qt resource files (.rcc), read without Qt.

The layout is the one Qt's `rcc --binary` writes, format versions 1 to 3; numbers are big-endian.
A header gives the offsets of three sections: a tree of nodes of one size, their names in UTF-16,
and the data, where each file starts with its length. Node 0 is the root folder, and the children
of a folder lie side by side in the tree.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from training.data.data_recipe import DataError

MAGIC = b"qres"
NODE_BYTES = {1: 14, 2: 22, 3: 22}
"""Format version -> size of a tree node; from version 2 on a node ends with a time stamp."""

MAX_FILE_BYTES = 64 << 20
"""Longest file that is unpacked: a damaged or hostile length must not fill the memory."""

ZLIB, FOLDER, ZSTD = 1, 2, 4
"""The flags of a node; a plain file has none."""


class RccError(DataError):
    """A resource file that is damaged, or of a kind that this reader does not know."""


@dataclass(frozen=True, kw_only=True)
class RccHeader:
    """Where the sections of a resource file start, in bytes."""

    version: int
    tree: int
    data: int
    names: int


def read_rcc(raw: bytes, label: str) -> dict[str, bytes]:
    """Path -> content of every file of a resource, in the order of its tree.

    Paths have no leading slash. `label` names the resource in errors. Raises RccError when it is
    truncated, is no resource, holds a node twice, or uses a version or compression not known.
    """
    try:
        return dict(_walk(raw, _header(raw)))
    except struct.error as error:
        raise RccError(f"{label}: truncated Qt resource") from error
    except RccError as error:
        raise RccError(f"{label}: {error}") from error


def _header(raw: bytes) -> RccHeader:
    if raw[: len(MAGIC)] != MAGIC:
        raise RccError("not a Qt resource (bad magic)")
    version, tree, data, names = struct.unpack_from(">4I", raw, len(MAGIC))
    if version not in NODE_BYTES:
        raise RccError(f"Qt resource version {version}, this code reads 1 to 3")
    return RccHeader(version=version, tree=tree, data=data, names=names)


def _walk(raw: bytes, header: RccHeader) -> Iterator[tuple[str, bytes]]:
    size = NODE_BYTES[header.version]
    paths: set[str] = set()
    visited: set[int] = set()
    pending = [(0, "")]
    while pending:
        index, parent = pending.pop()
        # Every node has one parent; one met twice is a cycle, or a tree that grows without end.
        if index in visited:
            raise RccError(f"node {index} is in the tree twice")
        visited.add(index)
        name, flags, first, second = struct.unpack_from(">IHII", raw, header.tree + size * index)
        path = f"{parent}{_name(raw, header.names + name)}" if index else ""
        if flags & FOLDER:
            count, child = first, second
            # A damaged count must not make a list of billions before it is found out.
            if count and header.tree + size * (child + count) > len(raw):
                raise RccError(f"truncated Qt resource: folder {path!r} has children past its end")
            below = f"{path}/" if index else ""
            pending += [(i, below) for i in range(child + count - 1, child - 1, -1)]
            continue
        if not index or path in paths:
            raise RccError(f"file {path!r} is in the tree twice" if index else "no root folder")
        paths.add(path)
        yield path, _content(raw, header.data + second, flags, path)


def _name(raw: bytes, at: int) -> str:
    (length,) = struct.unpack_from(">H", raw, at)
    (text,) = struct.unpack_from(f"{2 * length}s", raw, at + 6)  # a hash of 4 bytes in between
    try:
        name = str(text, "utf-16-be")
    except UnicodeDecodeError as error:
        raise RccError("a name is not UTF-16") from error
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise RccError(f"unusable name {name!r}")
    return name


def _content(raw: bytes, at: int, flags: int, path: str) -> bytes:
    (length,) = struct.unpack_from(">I", raw, at)
    if length > len(raw) - at - 4:
        raise RccError(f"truncated Qt resource: file {path!r} ends early")
    stored = raw[at + 4 : at + 4 + length]
    if flags & ZSTD:
        raise RccError(f"file {path!r} is packed with zstd; this code reads zlib")
    if not flags & ZLIB:
        return stored
    (size,) = struct.unpack_from(">I", stored)
    if size > MAX_FILE_BYTES:
        raise RccError(f"file {path!r} claims {size} bytes, more than {MAX_FILE_BYTES}")
    unpack = zlib.decompressobj()
    try:
        content = unpack.decompress(stored[4:], size + 1)
    except zlib.error as error:
        raise RccError(f"file {path!r} is not valid zlib data") from error
    if len(content) != size or not unpack.eof:
        raise RccError(f"file {path!r} does not unpack to the {size} bytes it claims")
    return content
