"""Codes of the images and phrases used last. P patches, Kp slots per patch, C concepts."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.core.coverage import NO_COVERAGE, ItemCoverage
from serving.engines.outputs import OutputRow, Patches

IMAGE_CACHE_BYTES = 64 * 2**20
PHRASE_CACHE_BYTES = 8 * 2**20

_OVERHEAD_BYTES = 512
"""What an entry takes beside its values: two array objects, the tuple and the dict's slot."""


class CachedCodes(NamedTuple):
    """Codes of an image, or of a phrase as one patch, in arrays of their own."""

    indices: NDArray[np.int64]
    """(P, Kp)."""
    values: NDArray[np.float32]
    """(P, Kp), 0 in unused slots."""
    coverage: ItemCoverage = NO_COVERAGE
    """What the model read of the image or phrase."""

    @classmethod
    def from_patches(cls, patches: Patches, coverage: ItemCoverage = NO_COVERAGE) -> CachedCodes:
        """Copies an image's codes: the engine's arrays are views that keep a whole batch alive.

        An unused slot may hold any index; here it gets index 0, so that all are valid.
        """
        values = np.array(patches.values, dtype=np.float32)
        return cls(np.where(values > 0, patches.indices, 0).astype(np.int64), values, coverage)

    @classmethod
    def from_text(cls, row: OutputRow, coverage: ItemCoverage = NO_COVERAGE) -> CachedCodes:
        """A text's active concepts, as one patch."""
        return cls(row.indices[None].astype(np.int64), np.array(row.values[None]), coverage)

    def dense(self, concepts: int) -> NDArray[np.float32]:
        """A text's codes as a vector over all concepts, (C,)."""
        vector = np.zeros(concepts, dtype=np.float32)
        vector[self.indices[0]] = self.values[0]
        return vector

    @property
    def size(self) -> int:
        """Bytes in memory, with the overhead of the objects."""
        return self.indices.nbytes + self.values.nbytes + _OVERHEAD_BYTES


class CodeCache:
    """Codes by key; the least recently used leave first.

    A cache belongs to one version of one model. The key of an image is the digest of its bytes.
    Codes are those before any edit, so the same image under other edits needs neither decoding nor
    a run of the vision model.
    """

    def __init__(self, max_bytes: int = IMAGE_CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._codes: OrderedDict[bytes, CachedCodes] = OrderedDict()
        self._bytes = 0

    def get(self, key: bytes) -> CachedCodes | None:
        """The codes of a key, or None when they are not in the cache."""
        codes = self._codes.get(key)
        if codes is not None:
            self._codes.move_to_end(key)
        return codes

    def put(self, key: bytes, codes: CachedCodes) -> None:
        """Adds or replaces the codes of a key."""
        old = self._codes.pop(key, None)
        self._bytes += codes.size - old.size if old else codes.size + len(key)
        self._codes[key] = codes
        while self._bytes > self._max_bytes:
            oldest_key, oldest = self._codes.popitem(last=False)
            self._bytes -= oldest.size + len(oldest_key)
