"""One pass over pairs that finds those that belong together; kept in the user's cache."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import io
import json
import logging
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bundle.atomic import write_file
from bundle.image import ImageError, ImageLimits, decode_image
from bundle.progress import show_progress
from training.data.fetch import default_cache
from training.loading.likeness import Likeness, likeness_of
from training.loading.pair_records import PairRecords, RecordWriter
from training.loading.sides import image_digest
from training.loading.sources._files import walk
from training.loading.sources.base import Pair, PairSource

log = logging.getLogger(__name__)

PART = 2_000
"""Pairs between two writes: what a killed pass reads again. The records of fewer pairs are not
kept, as they are read again in seconds."""

BATCH = 64
"""Pairs in memory at a time, with their images."""

SCHEMA = 1
"""Raised when records are made another way: what is kept by another one is not read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataStamp:
    """What some data are, as far as the names, sizes and times of change of their files tell."""

    digest: str
    bytes: int
    """The size of all files."""

    @classmethod
    def of(cls, path: Path, *settings: str) -> DataStamp:
        """Looks at the files in and below a folder, or at one file. `settings` say how they are
        read."""
        total, size = hashlib.sha256(json.dumps([SCHEMA, *settings]).encode()), 0
        for name in walk(path) if path.is_dir() else [""]:
            try:
                status = os.stat(path / name if name else path)
            except OSError:
                continue
            entry = (os.fsencode(name).hex(), status.st_size, status.st_mtime_ns)
            total.update(json.dumps(entry).encode())
            size += status.st_size
        return cls(digest=total.hexdigest()[:32], bytes=size)


def read_records(source: PairSource, stamp: DataStamp, name: str) -> PairRecords:
    """The records of all good pairs of a source, which `name` stands for in messages.

    A pass that was stopped goes on where it was, and one that is finished is not done again, as
    long as the files stay as they are. Of processes that want the same records, one reads the data.
    """
    folder = _folder(stamp)
    if not folder.is_dir() and sum(map(source.count, source.pieces)) < PART:
        return _read(source, None, name)
    with _locked(folder):
        kept = _KeptParts(folder)
        if kept.is_done:
            return PairRecords.joined(kept.parts)
        return PairRecords.joined([*kept.parts, _read(source, kept, name)])


def keep_records(source: PairSource, stamp: DataStamp, records: PairRecords) -> None:
    """Keeps what somebody else read of all good pairs of a source, for `read_records` to find."""
    if len(records.digests) < PART:
        return
    folder = _folder(stamp)
    with _locked(folder):
        kept = _KeptParts(folder)
        if not kept.pieces:
            kept.write(records, 0, len(source.pieces), is_last=True)


def _folder(stamp: DataStamp) -> Path:
    return default_cache().parent / "pairs" / stamp.digest


def _read(source: PairSource, kept: _KeptParts | None, name: str) -> PairRecords:
    """Reads what is not kept yet, and keeps it."""
    first = 0 if kept is None else kept.pieces
    pieces = list(source.pieces)[first:]
    total = sum(source.count(piece) for piece in pieces)
    parts, writer = list[PairRecords](), RecordWriter()
    with (
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
        show_progress(f"{name}, once", total, "pairs") as advance,
    ):
        for number, piece in enumerate(pieces, first + 1):
            for batch in _batches(source.read(piece)):
                for pair, record in zip(batch, pool.map(_record, batch), strict=True):
                    if record is not None:
                        writer.add(record.digest, record.likeness, pair.captions)
                advance(len(batch))
            is_last = piece == pieces[-1]
            if kept is not None and (is_last or len(writer) >= PART):
                parts.append(writer.records())
                kept.write(parts[-1], first, number, is_last=is_last)
                writer, first = RecordWriter(), number
    return PairRecords.joined([*parts, writer.records()])


def _batches(found: Iterable[object]) -> Iterator[list[Pair]]:
    batch = list[Pair]()
    for pair in found:
        if isinstance(pair, Pair):
            batch.append(pair)
        if len(batch) == BATCH:
            yield batch
            batch = []
    yield batch


class _Record(NamedTuple):
    digest: int
    likeness: Likeness


def _record(pair: Pair) -> _Record | None:
    try:
        image = decode_image(pair.image, ImageLimits())
    except ImageError:
        return None  # a bad pair, which no run learns from
    return _Record(image_digest(pair.image), likeness_of(image))


class _KeptParts:
    """Files of records, each of some pieces in their order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.parts: list[PairRecords] = []
        self.pieces = 0
        """How many pieces the parts are of."""
        self.is_done = False
        for path in sorted(folder.glob("*.npz")):
            start, end, last = path.stem.split("-")
            if int(start) != self.pieces:
                break
            with np.load(path, allow_pickle=False) as arrays:
                self.parts.append(PairRecords(**arrays))
            self.pieces, self.is_done = int(end), last == "last"

    def write(self, part: PairRecords, start: int, end: int, *, is_last: bool = False) -> None:
        """Keeps the records of pieces from `start` to before `end`."""
        data = io.BytesIO()
        np.savez(data, **{f.name: getattr(part, f.name) for f in dataclasses.fields(part)})
        name = f"{start:09}-{end:09}-{'last' if is_last else 'more'}.npz"
        try:
            write_file(self._folder / name, data.getvalue())
        except OSError:
            log.warning("%s: cannot be written; the data are read again next time", self._folder)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds a folder of the cache, or nothing where there can be none."""
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((folder / "lock").open("wb"))
        except OSError:
            pass
        else:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
