"""Names for concepts: the words whose text codes fire them, with pictures as evidence.

V words, N pictures, C concepts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bundle.concepts import Concept, Evidence
from training.metrics import Floats, unit

WORDS = 6
"""Words kept as evidence; the first is the name, the next few are aliases."""

PICTURES = 4
"""Pictures kept as evidence."""


def name_concepts(
    words: Sequence[str],
    word_codes: Floats,
    sources: Sequence[str],
    image_codes: Floats,
) -> list[Concept]:
    """Names each of C concepts.

    `word_codes` (V, C) are the text tower's codes of the vocabulary `words`, `image_codes` (N, C)
    the image tower's codes of pictures known by `sources`. A word speaks for a concept by the
    share of its own unit code that the concept holds: a word that fires everything a little names
    nothing. A concept is active when it fires on at least two pictures.
    """
    shares = unit(word_codes)
    fired = image_codes > 0
    frequency = fired.mean(axis=0)
    image_mean, text_mean = image_codes.mean(axis=0), word_codes.mean(axis=0)
    # Each side is scaled to its own mean first, or the louder tower would own every concept.
    image_energy = image_mean / max(float(image_mean.mean()), 1e-12)
    text_energy = text_mean / max(float(text_mean.mean()), 1e-12)
    energy = image_energy + text_energy
    modality = np.divide(image_energy, energy, out=np.full_like(energy, 0.5), where=energy > 0)
    best_words = _top(shares, WORDS)
    best_pictures = _top(image_codes, PICTURES)
    concepts = []
    for k in range(word_codes.shape[1]):
        mine = [w for w in best_words[k] if shares[w, k] > 0]
        shown = [i for i in best_pictures[k] if image_codes[i, k] > 0]
        concepts.append(
            Concept(
                id=k,
                name=words[mine[0]] if mine else f"concept {k}",
                aliases=tuple(words[w] for w in mine[1:4]),
                frequency=float(frequency[k]),
                clarity=None,
                modality=float(modality[k]),
                active=bool(fired[:, k].sum() >= 2),
                words=tuple(_evidence(words[w], shares[w, k]) for w in mine),
                images=tuple(_evidence(sources[i], image_codes[i, k]) for i in shown),
            )
        )
    return concepts


def _evidence(source: str, value: float) -> Evidence:
    return Evidence(source=source, value=round(float(value), 5))


def _top(codes: Floats, count: int) -> NDArray[np.int64]:
    """The rows with the highest values of each column: (C, count)."""
    count = min(count, len(codes))
    part = np.argpartition(-codes, count - 1, axis=0)[:count]
    order = np.argsort(-np.take_along_axis(codes, part, axis=0), axis=0, kind="stable")
    result: NDArray[np.int64] = np.take_along_axis(part, order, axis=0).T
    return result
