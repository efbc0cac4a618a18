"""captions.safetensors: captions of the training data with their codes, to name an image by.

N captions, C concepts, M active concepts of all captions together, K of a query. An image's nearest
captions say what it shows better than the names of its concepts do (docs/results.md).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

CAPTIONS_FILE = "captions.safetensors"

MAX_CAPTIONS = 40_000
"""A search of as many takes about a millisecond, so it may run in an event loop."""

KEPT_CONCEPTS = 32
"""The strongest concepts that a caption's code keeps: more do not find better captions."""

_TYPES = {"indices": np.uint32, "values": np.float16, "offsets": np.uint32, "texts": np.uint8}


class CaptionsError(ValueError):
    """A captions.safetensors that breaks its contract; the message names the tensor."""


class CaptionIndex:
    """Captions, searched by their codes."""

    def __init__(
        self,
        texts: Sequence[str],
        indices: NDArray[np.uint32],
        values: NDArray[np.floating],
        offsets: NDArray[np.uint32],
        concepts: int,
    ) -> None:
        """Codes as in SparseCodes: `indices` and `values` (M,), row n being
        `offsets[n]:offsets[n + 1]`. Raises CaptionsError."""
        self.texts = tuple(texts)
        _check(self.texts, indices, values, offsets, concepts)
        rows = np.repeat(np.arange(len(self.texts)), _sizes(offsets))
        exact = values.astype(np.float32)
        lengths = np.sqrt(np.bincount(rows, exact * exact, len(self.texts))).astype(np.float32)
        # By concept: an image's K concepts then lead to the captions that share one.
        order = np.argsort(indices, kind="stable")
        self._rows = rows[order]
        self._values = exact[order] / lengths[self._rows]
        self._ends = np.cumsum(np.bincount(indices, minlength=concepts))

    @classmethod
    def open(cls, path: Path, concepts: int) -> Self:
        """Reads captions.safetensors for a model of C concepts. Raises CaptionsError."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            tensors = load_file(path)
        except (SafetensorError, ValueError, OSError):
            raise CaptionsError("not a safetensors file") from None
        for name, kind in _TYPES.items():
            if name not in tensors or tensors[name].dtype != kind or tensors[name].ndim != 1:
                raise CaptionsError(f"{name}: must be a vector of {np.dtype(kind).name}")
        try:
            texts = tensors["texts"].tobytes().decode()
        except UnicodeDecodeError:
            raise CaptionsError("texts: not UTF-8") from None
        return cls(
            texts.split("\n") if texts else [],
            tensors["indices"],
            tensors["values"],
            tensors["offsets"],
            concepts,
        )

    def __len__(self) -> int:
        return len(self.texts)

    def nearest(
        self, indices: NDArray[np.integer], values: NDArray[np.floating], count: int
    ) -> tuple[tuple[str, float], ...]:
        """The captions nearest to a code of K active concepts, with their cosines, best first:
        `count` of them, or fewer where fewer share a concept with it. Captions of equal cosine keep
        their order."""
        length = float(np.linalg.norm(values))
        if count < 1 or not length or not self.texts:
            return ()
        ends = self._ends[indices]
        starts = np.where(indices > 0, self._ends[indices.astype(np.int64) - 1], 0)
        counts = ends - starts
        # The positions of all captions of all K concepts: starts[k], starts[k] + 1, ...
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        position = np.repeat(starts, counts) + within
        products = self._values[position] * np.repeat(values / length, counts)
        cosines = np.bincount(self._rows[position], products, len(self.texts))
        count = min(count, len(self.texts))
        lowest = max(np.partition(cosines, -count)[-count], np.finfo(np.float32).tiny)
        near = np.flatnonzero(cosines >= lowest)
        best = near[np.argsort(-cosines[near], kind="stable")[:count]]
        return tuple((self.texts[row], float(cosines[row])) for row in best)


def write_captions(path: Path, texts: Sequence[str], codes: NDArray[np.float32]) -> None:
    """Writes the distinct ones of `texts`, whose codes (N, C) are in the same order.

    Unprintable characters become spaces; texts without a code are left out. Of more than
    MAX_CAPTIONS an even sample is kept, and the log says so. Raises CaptionsError when none is
    left.
    """
    from safetensors.numpy import save

    printable = ["".join(c if c.isprintable() else " " for c in text).strip() for text in texts]
    first = {text: row for row, text in reversed(list(enumerate(printable))) if text}
    kept = sorted(row for row in first.values() if (codes[row] > 0).any())
    if len(kept) > MAX_CAPTIONS:
        log.warning("captions: %d of %d name images", MAX_CAPTIONS, len(kept))
        kept = [kept[i] for i in np.linspace(0, len(kept) - 1, MAX_CAPTIONS).round().astype(int)]
    if not kept:
        raise CaptionsError("texts: none has a code")
    indices, values, sizes = [], [], []
    for row in kept:
        strongest = np.argsort(-codes[row], kind="stable")[:KEPT_CONCEPTS]
        half = codes[row].astype(np.float16)
        active = np.sort(strongest[half[strongest] > 0])
        indices.append(active.astype(np.uint32))
        values.append(half[active])
        sizes.append(len(active))
    content = save(
        {
            "indices": np.concatenate(indices),
            "values": np.concatenate(values),
            "offsets": np.cumsum([0, *sizes]).astype(np.uint32),
            "texts": np.frombuffer("\n".join(printable[row] for row in kept).encode(), np.uint8),
        }
    )
    path.write_bytes(content)  # save_file would let nobody but the owner read it


def _sizes(offsets: NDArray[np.uint32]) -> NDArray[np.int64]:
    """How many active concepts each caption has."""
    ends: NDArray[np.int64] = offsets.astype(np.int64)
    return ends[1:] - ends[:-1]


def _check(
    texts: Sequence[str],
    indices: NDArray[np.uint32],
    values: NDArray[np.floating],
    offsets: NDArray[np.uint32],
    concepts: int,
) -> None:
    if len(texts) > MAX_CAPTIONS:
        raise CaptionsError(f"texts: more than {MAX_CAPTIONS}")
    if not all(text and text.isprintable() for text in texts):
        raise CaptionsError("texts: empty or unprintable")
    if len(offsets) != len(texts) + 1 or (len(offsets) and offsets[0] != 0):
        raise CaptionsError("offsets: must be one more than the captions, from 0 on")
    if (_sizes(offsets) < 1).any():
        raise CaptionsError("offsets: must increase")
    if not len(indices) == len(values) == int(offsets[-1]):
        raise CaptionsError("indices, values: their lengths must equal the last offset")
    if (indices >= concepts).any():
        raise CaptionsError(f"indices: an id outside of 0..{concepts - 1}")
    if not np.isfinite(values).all() or (values <= 0).any():
        raise CaptionsError("values: must be finite and greater than 0")
