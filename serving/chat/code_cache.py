"""Codes of the images and phrases seen last. P patches, Kp slots of a patch."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.engines.outputs import OutputRow, Patches

KEPT_BYTES = 64 * 2**20

_ARRAYS = 512


class CachedCodes(NamedTuple):
    """Codes of an image, or of a phrase as one patch, in arrays of their own."""

    indices: NDArray[np.int64]
    """(P, Kp)."""
    values: NDArray[np.float32]
    """(P, Kp), 0 in unused slots."""

    @classmethod
    def of(cls, patches: Patches) -> CachedCodes:
        """A copy: what the engine gave is a view of its whole batch. Unused slots may hold any
        index there, and get a valid one."""
        values = np.array(patches.values, dtype=np.float32)
        return cls(np.where(values > 0, patches.indices, 0).astype(np.int64), values)

    @classmethod
    def of_text(cls, row: OutputRow) -> CachedCodes:
        """A text's active concepts, as one patch."""
        return cls(row.indices[None].astype(np.int64), np.array(row.values[None]))

    def dense(self, concepts: int) -> NDArray[np.float32]:
        """The codes of a text in full width, (C,)."""
        full = np.zeros(concepts, dtype=np.float32)
        full[self.indices[0]] = self.values[0]
        return full

    @property
    def size(self) -> int:
        """Bytes, with what the arrays themselves take."""
        return self.indices.nbytes + self.values.nbytes + _ARRAYS


class CodeCache:
    """Codes by a key, those not asked for longest leave first.

    One belongs to one version of one model, whose codes they are. An image's key is the digest of
    its bytes. Edits come after, so the same image under other edits needs neither decoding nor a
    run of the vision model.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._codes: OrderedDict[bytes, CachedCodes] = OrderedDict()
        self._bytes = 0

    def get(self, key: bytes) -> CachedCodes | None:
        """The codes of a key, if they are kept."""
        codes = self._codes.get(key)
        if codes is not None:
            self._codes.move_to_end(key)
        return codes

    def put(self, key: bytes, codes: CachedCodes) -> None:
        """Keeps codes."""
        old = self._codes.pop(key, None)
        self._bytes += codes.size - old.size if old else codes.size + len(key)
        self._codes[key] = codes
        while self._bytes > self._kept_bytes:
            left, its = self._codes.popitem(last=False)
            self._bytes -= its.size + len(left)
