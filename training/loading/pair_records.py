"""What is kept of each pair to find those that belong together: some 80 bytes a pair. N pairs."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.text import folded
from training.loading.likeness import COLOUR_CELLS, Likeness


@dataclass(frozen=True, kw_only=True)
class PairRecords:
    """The good pairs of some data, in the order in which they were read."""

    digests: NDArray[np.uint64]
    """(N,): see image_digest."""
    bits: NDArray[np.uint64]
    """(N,): see Likeness."""
    colours: NDArray[np.uint8]
    """(N, COLOUR_CELLS)"""
    captions: NDArray[np.uint64]
    """A digest of each caption of each pair, as a model reads it, in any case of letters."""
    caption_pair: NDArray[np.int64]
    """The pair that each of `captions` belongs to."""

    @classmethod
    def joined(cls, parts: Sequence[PairRecords]) -> PairRecords:
        """One after another."""
        parts = [RecordWriter().records(), *parts]
        starts = np.cumsum([0, *(len(part.digests) for part in parts[:-1])])
        owners = [part.caption_pair + start for part, start in zip(parts, starts, strict=True)]
        return cls(
            digests=np.concatenate([part.digests for part in parts]),
            bits=np.concatenate([part.bits for part in parts]),
            colours=np.concatenate([part.colours for part in parts]),
            captions=np.concatenate([part.captions for part in parts]),
            caption_pair=np.concatenate(owners),
        )


class RecordWriter:
    """Gathers records of pairs."""

    def __init__(self) -> None:
        self._digests, self._bits, self._captions = array("Q"), array("Q"), array("Q")
        self._colours, self._caption_pair = bytearray(), array("q")

    def __len__(self) -> int:
        return len(self._digests)

    def add(self, digest: int, likeness: Likeness, captions: Sequence[str]) -> None:
        """Adds a pair."""
        for caption in captions:
            self._captions.append(caption_digest(caption))
            self._caption_pair.append(len(self._digests))
        self._digests.append(digest)
        self._bits.append(likeness.bits)
        self._colours += likeness.colours

    def records(self) -> PairRecords:
        """All pairs that were added."""
        return PairRecords(
            digests=np.array(self._digests, dtype=np.uint64),
            bits=np.array(self._bits, dtype=np.uint64),
            colours=np.frombuffer(bytes(self._colours), np.uint8).reshape(-1, COLOUR_CELLS),
            captions=np.array(self._captions, dtype=np.uint64),
            caption_pair=np.array(self._caption_pair, dtype=np.int64),
        )


def caption_digest(caption: str) -> int:
    """64 bits that are equal for captions that a model reads as the same."""
    return int.from_bytes(hashlib.sha256(folded(caption).encode()).digest()[:8])
