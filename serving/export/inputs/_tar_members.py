"""The members of a tar file, and what of it is damaged."""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

BLOCK = tarfile.BLOCKSIZE
MAX_HEADER_BYTES = 2**20
"""A name or a header of pax that is longer is damaged."""
MAX_END_BYTES = 2**20
"""Of zeros at the end. Writers make 20 KiB at most."""
_CHECKSUM = re.compile(rb"[0-7 \0]{8}")
MAX_HEADER_READS = 64
"""Of one member, which may have headers of pax and of long names before its own; each is two reads,
and tarfile calls itself for the next one."""
_BAD_HEADER = (tarfile.TarError, ValueError, IndexError, KeyError)
"""What tarfile raises for a damaged header: the parsers of its parts let errors through."""


class TarMember(NamedTuple):
    """A member, or a part of the file that is none."""

    name: str
    """Empty for a part that is no member."""
    start: int
    end: int
    """Where its bytes are."""
    problem: str = ""
    is_file: bool = True
    """Not for a folder, a link or a device."""
    is_folder: bool = False


def tar_members(stream: Any, size: int | None) -> Iterator[TarMember]:
    """All members, in their order, with the parts between them that are damaged. `size` is the
    number of bytes in the stream; None when only reading it tells.

    After a damaged header the next good one is searched, block by block. Zeros between members are
    damage too, such as a crash leaves, unless they end one tar file and another one follows.
    """
    archive = SimpleNamespace(
        fileobj=_BoundedReads(stream),
        encoding="utf-8",
        errors="surrogateescape",
        pax_headers={},
        offset=0,
    )
    offset = reached = first = 0  # `first`: where the tar file begins that is read
    skipped = zeros = -1  # where such a part begins
    try:
        while True:
            stream.seek(offset)
            block = stream.read(BLOCK)
            if not block:
                break
            reached = offset + len(block)
            member = None
            if not block.strip(b"\0"):
                zeros = offset if zeros < 0 else zeros
            elif skipped < 0 or _CHECKSUM.fullmatch(block, 148, 156):
                stream.seek(offset)
                member = _read_header(archive)
                if member is None and skipped < 0:
                    skipped, zeros = offset, -1
            if member is None:
                offset += BLOCK
                continue
            if skipped >= 0:
                yield _damaged(skipped, offset)
            elif zeros >= 0:
                is_end = offset - zeros == 2 * BLOCK or not (offset - first) % tarfile.RECORDSIZE
                if not is_end:
                    yield _zeros(zeros, offset)
                first = offset
            skipped = zeros = -1
            found = _member(member)
            reached = stream.seek(found.end) if size is None else size
            if found.end > reached:
                yield found._replace(problem="cut short")
                return
            yield found
            offset = archive.offset
    except (EOFError, OSError, zlib.error):  # of a compressed file
        if size is not None:
            raise
        if skipped >= 0:
            yield _damaged(skipped, offset)
        problem = f"what follows its first {offset} bytes cannot be decompressed"
        yield TarMember("", offset, offset, problem)
        return
    if skipped >= 0:
        yield _damaged(skipped, reached)
    elif reached - zeros > MAX_END_BYTES and zeros >= 0:
        yield _zeros(zeros, reached)
    elif zeros < 0:
        yield TarMember("", reached, reached, "cut short: the tar file has no end")


def _read_header(archive: Any) -> tarfile.TarInfo | None:
    archive.fileobj.reads = 0
    try:
        return tarfile.TarInfo.fromtarfile(cast(tarfile.TarFile, archive))
    except _BAD_HEADER:
        return None


def _member(member: tarfile.TarInfo) -> TarMember:
    is_file = member.isreg() and not member.issparse()
    size = member.size if is_file else 0
    start = member.offset_data
    return TarMember(member.name, start, start + size, "", is_file, member.isdir())


def _damaged(start: int, end: int) -> TarMember:
    problem = f"no tar header: {end - start} bytes from {start} on were skipped"
    return TarMember("", start, end, problem)


def _zeros(start: int, end: int) -> TarMember:
    return TarMember(
        "", start, end, f"{end - start} zero bytes from {start} on in place of members"
    )


class _BoundedReads:
    """A stream that gives headers only, in at most MAX_HEADER_READS reads of MAX_HEADER_BYTES."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.reads = 0
        self.tell, self.seek = stream.tell, stream.seek

    def read(self, size: int) -> bytes:
        """Raises tarfile.HeaderError for a header that is too long, or one too many."""
        self.reads += 1
        if size > MAX_HEADER_BYTES or self.reads > MAX_HEADER_READS:
            raise tarfile.HeaderError("too long")
        data: bytes = self._stream.read(size)
        return data
