"""What an export holds of its input, compared with what the input holds now. N entries."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.export.ended_rows import GONE, REPLACED, EndedRow, EndedRows
from serving.export.generations import Generations
from serving.export.inputs.base import InputEntry

_KEY = np.dtype("S16")


class InputChanges(NamedTuple):
    """How an input differs from its export."""

    new: int = 0
    changed: int = 0
    gone: int = 0

    def __bool__(self) -> bool:
        return any(self)

    def __str__(self) -> str:
        return f"{self.new:,} new, {self.changed:,} changed, {self.gone:,} gone"


class LiveEntries:
    """The live entries of an export, by the digests of their ids: 33 bytes of memory for each."""

    def __init__(self, generations: Generations, ended: EndedRows) -> None:
        """Reads all plans. Raises ExportError when one cannot be read."""
        self._generations = generations
        # One key that no id has and that comes before all others, so that there always is one.
        keys: list[NDArray[np.bytes_]] = [np.zeros(1, _KEY)]
        stamps = [np.zeros(1, np.uint64)]
        shards, rows = [np.zeros(1, np.uint32)], [np.zeros(1, np.uint32)]
        for shard in generations:
            count = len(shard.entries)
            keys.append(_keys(entry.id for entry in shard.entries))
            stamps.append(_stamps(shard.entries))
            shards.append(np.full(count, shard.number, np.uint32))
            rows.append(np.arange(count, dtype=np.uint32))
        key, shard_of = np.concatenate(keys), np.concatenate(shards)
        order = np.argsort(key, kind="stable")
        # Of equal ids the one of the last generation is the live one.
        newest = order[np.append(key[order][1:] != key[order][:-1], True)]
        self._keys, self._shards = key[newest], shard_of[newest]
        self._stamps = np.concatenate(stamps)[newest]
        self._rows = np.concatenate(rows)[newest]
        self._is_live = self._keys != b""
        for number, ids in ended.by_shard.items():
            at, found = self._find(_keys(ids.to_pylist()))
            self._is_live[at[found & (self._shards[at] == number)]] = False
        self._is_seen = np.zeros(len(newest), bool)
        self._is_changed = np.zeros(len(newest), bool)
        self._new = 0
        self.seen = 0
        """Entries of the input that were compared."""

    def expire(self, ids: Iterable[str]) -> None:
        """Makes these entries count as changed when the input still has them."""
        at, found = self._find(_keys(ids))
        self._stamps[at[found]] = ~self._stamps[at[found]]

    def changed(self, entries: Iterable[InputEntry], chunk: int) -> Iterator[InputEntry]:
        """Those of the input's entries that are new or changed. After it, `changes` and `ended`
        know all. `chunk` entries are compared at a time."""
        remaining = iter(entries)
        while compared := list(itertools.islice(remaining, chunk)):
            self.seen += len(compared)
            at, found = self._find(_keys(entry.id for entry in compared))
            found &= self._is_live[at]
            same = found & (self._stamps[at] == _stamps(compared))
            self._is_seen[at[found]] = True
            self._is_changed[at[found & ~same]] = True
            self._new += int((~found).sum())
            yield from (compared[i] for i in np.flatnonzero(~same).tolist())

    @property
    def changes(self) -> InputChanges:
        """What was found."""
        gone = int((self._is_live & ~self._is_seen).sum())
        return InputChanges(self._new, int(self._is_changed.sum()), gone)

    def ended(self, update: int) -> list[EndedRow]:
        """What an update with these changes ends, in the order of the shards and their entries."""
        ends = np.flatnonzero(self._is_live & (self._is_changed | ~self._is_seen))
        ends = ends[np.lexsort((self._rows[ends], self._shards[ends]))]
        starts = np.flatnonzero(np.diff(self._shards[ends].astype(np.int64), prepend=-1))
        ended: list[EndedRow] = []
        for part in np.split(ends, starts[1:]) if len(ends) else ():
            shard = self._generations.shard(int(self._shards[part[0]]))
            for one in part.tolist():
                reason = REPLACED if self._is_changed[one] else GONE
                id = shard.entries[self._rows[one]].id
                ended.append(EndedRow(id, shard.generation, shard.number, update, reason))
        return ended

    def _find(self, keys: NDArray[np.bytes_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Where each key is, and whether it is there at all."""
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return at, self._keys[at] == keys


def _keys(ids: Iterable[str]) -> NDArray[np.bytes_]:
    # A last byte that is never 0: numpy does not tell a text from one with zeros behind it.
    digests = [_digest(id, 15) + b"k" for id in ids]
    return np.array(digests, _KEY)


def _stamps(entries: Sequence[InputEntry]) -> NDArray[np.uint64]:
    """(N,): a number that changes with where an entry is, with its file, and with its problem."""
    digests = b"".join(_digest("\0".join(entry[1:]), 8) for entry in entries)
    return np.frombuffer(digests, np.uint64)


def _digest(text: str, size: int) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()
