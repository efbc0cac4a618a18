"""Ids that no two entries share, whatever a user's column or list holds."""

from __future__ import annotations

import hashlib

import numpy as np

RECENT = 2**16
"""Ids that are kept in a set before they join the sorted array."""


class UniqueIds:
    """Gives each id once: the second entry of an id `a` becomes `a#2`, the third one `a#3`.

    It keeps 8 bytes of each id's hash. With a billion ids, the chance that two different ones share
    a hash is 3%; the later one would then have `#2` behind it, and still be one of its own.
    """

    def __init__(self) -> None:
        self._sorted = np.zeros(0, np.uint64)
        self._recent = set[int]()
        self._counts: dict[str, int] = {}

    def claim(self, id: str) -> str:
        """The id for the next entry that asks for this one."""
        if self._add(id):
            return id
        number = self._counts.get(id, 1)
        while True:
            number += 1
            if self._add(f"{id}#{number}"):
                self._counts[id] = number
                return f"{id}#{number}"

    def _add(self, id: str) -> bool:
        """Whether the id is new."""
        digest = hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        key = int.from_bytes(digest, "little")
        if key in self._recent:
            return False
        at = int(np.searchsorted(self._sorted, np.uint64(key)))
        if at < len(self._sorted) and int(self._sorted[at]) == key:
            return False
        self._recent.add(key)
        if len(self._recent) > RECENT + len(self._sorted) // 16:
            new = np.fromiter(self._recent, np.uint64, len(self._recent))
            self._sorted = np.sort(np.concatenate([self._sorted, new]))
            self._recent.clear()
        return True
