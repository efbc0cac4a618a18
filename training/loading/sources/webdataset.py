"""WebDataset shards: tar files in which `KEY.jpg` stands beside `KEY.txt` or `KEY.json`."""

from __future__ import annotations

import tarfile
import tempfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self, cast

from training.data.data_recipe import DataError
from training.loading.sources import _reasons
from training.loading.sources._captions import (
    MAX_CAPTION_BYTES,
    captions_of_json,
    captions_of_text,
)
from training.loading.sources._files import walk
from training.loading.sources._names import CAPTION_SUFFIXES, TAR_SUFFIXES, endings, split_name
from training.loading.sources.base import (
    MAX_IMAGE_BYTES,
    BadPair,
    BadPairError,
    Columns,
    Damage,
    Found,
    OtherMembers,
    Pair,
    printable,
)

BLOCK = 512

_GZIP = 31
"""What zlib calls gzip."""

_PACKED_BYTES = 2**14
"""Of a compressed shard, in one go: they unpack to 17 MB at most."""

MAX_HEADER_BYTES = 2**20
"""A name or a header of pax that is longer is damaged."""

_READ_ERRORS = (
    tarfile.TarError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    OverflowError,
    RecursionError,
    zlib.error,
)
"""What tarfile and gzip raise on files that are damaged; tarfile calls itself for a header that
follows a header of pax."""


class _ShardMembers(NamedTuple):
    """The pairs of one shard as its headers tell them."""

    groups: dict[str, dict[str, tarfile.TarInfo]]
    """By key: the members of a pair by their endings, in the order of the shard."""
    repeated: list[str]
    """Keys of pairs that are in the shard again."""
    others: Counter[str]
    """Members that belong to no pair, by their endings; those whose names begin with a dot are not
    among them, as such files are not."""
    size: int
    damage: str
    """Why the shard could not be read to its end; empty for one that could."""


class TarPairs:
    """The shards in and below a folder."""

    def __init__(self, folder: Path, shards: Sequence[str], others: Sequence[str] = ()) -> None:
        """`others` are files of the folder that are not read."""
        self._folder = folder
        self.pieces = shards
        self.left_out: Mapping[str, int] = endings(others)

    @classmethod
    def open(cls, path: Path, columns: Columns) -> Self:
        """See PairSource.open. The path is a tar file, or a folder that holds some."""
        if not path.is_dir():
            return cls(path.parent, [path.name])
        names = list(walk(path))
        shards = [name for name in names if name.lower().endswith(TAR_SUFFIXES)]
        if not shards:
            raise DataError(f"data.path: {path.name} holds no .tar shards")
        return cls(path, shards, sorted(set(names) - set(shards)))

    def count(self, piece: str) -> int:
        """See PairSource.count."""
        try:
            with ExitStack() as stack:
                shard = _list(_open(self._folder / piece, stack)[0])
        except _READ_ERRORS:
            return 0
        return len(shard.groups) + len(shard.repeated)

    def read(self, piece: str) -> Iterator[Found]:
        """See PairSource.read."""
        name = printable(piece)
        with ExitStack() as stack:
            try:
                file, damage = _open(self._folder / piece, stack)
                shard = _list(file)
            except FileNotFoundError:
                yield Damage(name, _reasons.PIECE_NOT_FOUND)
                return
            except _READ_ERRORS:
                yield Damage(name, _reasons.UNREADABLE)
                return
            if shard.others:
                yield OtherMembers(name, shard.others)
            for key, members in shard.groups.items():
                key = f"{name}/{printable(key)}"
                try:
                    yield Pair(key, *_pair(file, shard.size, members))
                except BadPairError as reason:
                    yield BadPair(key, str(reason))
            for key in shard.repeated:
                yield BadPair(f"{name}/{printable(key)}", _reasons.REPEATED)
        if damage or shard.damage:
            yield Damage(name, damage or shard.damage)


def _open(path: Path, stack: ExitStack) -> tuple[BinaryIO, str]:
    """The tar file, and why it is cut short, if it is. Raises one of _READ_ERRORS.

    Pairs are read at their offsets, so a compressed shard is unpacked into a temporary file first.
    """
    if not path.is_file():
        raise FileNotFoundError(path) if not path.exists() else OSError("not a file")
    if path.name.lower().endswith(".tar"):
        return stack.enter_context(path.open("rb")), ""
    unpacked = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # the stack closes it
    with path.open("rb") as packed:
        return unpacked, _unpack(packed, unpacked)


def _unpack(packed: BinaryIO, unpacked: BinaryIO) -> str:
    """Unpacks gzip as far as it can be read; the standard library's reader would lose the rest of
    a block. Returns why that is not all of it."""
    decoder = zlib.decompressobj(wbits=_GZIP)
    try:
        while data := packed.read(_PACKED_BYTES):
            while data:
                if decoder.eof:  # a file of gzip may have several parts
                    decoder = zlib.decompressobj(wbits=_GZIP)
                unpacked.write(decoder.decompress(data))
                data = decoder.unused_data
    except zlib.error:
        return _reasons.DAMAGED
    return "" if decoder.eof else _reasons.CUT_SHORT


class _HeaderReads:
    """A file that gives headers only: none asks for more than MAX_HEADER_BYTES."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.tell, self.seek = file.tell, file.seek

    def read(self, size: int) -> bytes:
        """Raises tarfile.InvalidHeaderError for a header that is too long."""
        if size > MAX_HEADER_BYTES:
            raise tarfile.InvalidHeaderError("too long")  # type: ignore[attr-defined]  # not in the stubs
        return self._file.read(size)


def _list(file: BinaryIO) -> _ShardMembers:
    """Reads the headers of a shard. Where one is damaged, the next good one is looked for."""
    size = file.seek(0, 2)
    file.seek(0)
    groups: dict[str, dict[str, tarfile.TarInfo]] = {}
    repeats: dict[str, Counter[str]] = defaultdict(Counter)
    others: list[str] = []
    damage, end = ("" if size else _reasons.EMPTY_PIECE), 0
    try:
        headers = cast(BinaryIO, _HeaderReads(file))
        with tarfile.open(fileobj=headers, mode="r:", ignore_zeros=True) as tar:
            for member in tar:
                if member.size < 0 or member.offset < end:  # tarfile would read it for ever
                    raise tarfile.ReadError
                damage = damage or _skipped(file, end, member.offset)
                end = member.offset_data + -(-member.size // BLOCK) * BLOCK
                if not member.isdir() and not _add(member, groups, repeats):
                    others.append(member.name)
            # A tar ends with zeros: one that a killed writer left has none.
            is_whole = size >= end + BLOCK and not _skipped(file, end, size)
    except _READ_ERRORS:
        is_whole = False
    if not is_whole:
        damage = damage or (_reasons.CUT_SHORT if size - end < BLOCK else _reasons.DAMAGED)
    others += _drop_parts(groups)
    others = [name for name in others if not name.rpartition("/")[2].startswith(".")]
    repeated = [key for key, endings in repeats.items() for _ in range(max(endings.values()))]
    return _ShardMembers(groups, repeated, endings(others), size, damage)


def _add(
    member: tarfile.TarInfo,
    groups: dict[str, dict[str, tarfile.TarInfo]],
    repeats: dict[str, Counter[str]],
) -> bool:
    """Whether the member is of a pair."""
    key, suffix = split_name(member.name)
    if not suffix:
        return False
    members = groups.setdefault(key, {})
    if suffix not in members:
        members[suffix] = member
    else:
        repeats[key][suffix] += 1
    return True


def _drop_parts(groups: dict[str, dict[str, tarfile.TarInfo]]) -> list[str]:
    """Drops images such as `1.mask.png` beside the pair `1`: they are parts of it, and no pairs.
    Returns their names, and those of the second image of a pair."""
    dropped = []
    for key, members in list(groups.items()):
        if _has_caption(members):
            continue
        dots = [i for i, letter in enumerate(key) if letter == "."]
        if any(_has_caption(groups.get(key[:dot], {})) for dot in dots):
            dropped += [member.name for member in groups.pop(key).values()]
    for members in groups.values():
        dropped += [members[suffix].name for suffix in _images(members)[1:]]
    return dropped


def _images(members: dict[str, tarfile.TarInfo]) -> list[str]:
    return [suffix for suffix in members if suffix not in CAPTION_SUFFIXES]


def _has_caption(members: dict[str, tarfile.TarInfo]) -> bool:
    return any(suffix in members for suffix in CAPTION_SUFFIXES)


def _skipped(file: BinaryIO, start: int, end: int) -> str:
    """DAMAGED when there is anything but zeros where no member is."""
    if start < end:
        file.seek(start)
    while start < end:
        data = file.read(min(end - start, 2**20))
        if not data or data.strip(b"\0"):
            return _reasons.DAMAGED
        start += len(data)
    return ""


def _pair(
    file: BinaryIO, size: int, members: dict[str, tarfile.TarInfo]
) -> tuple[bytes, tuple[str, ...]]:
    """The image and the captions. Raises BadPairError."""
    images = _images(members)
    if not images:
        raise BadPairError(_reasons.NO_IMAGE)
    if ".txt" in members:
        captions = captions_of_text(_content(file, size, members[".txt"]))
    elif ".json" in members:
        captions = captions_of_json(_content(file, size, members[".json"]))
    else:
        raise BadPairError(_reasons.NO_CAPTION)
    image = _content(file, size, members[images[0]], MAX_IMAGE_BYTES, _reasons.IMAGE)
    if not image:
        raise BadPairError(_reasons.EMPTY_IMAGE)
    return image, captions


def _content(
    file: BinaryIO,
    size: int,
    member: tarfile.TarInfo,
    limit: int = MAX_CAPTION_BYTES,
    reasons: _reasons.FileReasons = _reasons.CAPTION,
) -> bytes:
    if not member.isreg() or member.issparse():
        raise BadPairError(reasons.not_a_file)
    if member.size > limit:
        raise BadPairError(reasons.too_large)
    if member.offset_data + member.size > size:
        raise BadPairError(_reasons.CUT_SHORT)
    try:
        file.seek(member.offset_data)
        return file.read(member.size)
    except OSError:
        raise BadPairError(_reasons.UNREADABLE) from None
