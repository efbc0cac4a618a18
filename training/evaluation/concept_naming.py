"""Names for concepts: the words whose text codes fire them, with images as evidence.

V words, N images, C concepts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bundle.concepts import Concept, Evidence
from training.evaluation.metrics import Floats, unit

WORDS = 5
"""Words kept as evidence; the first is the name, the next few are aliases."""

FAINT = 0.1
"""A word that scores less than so much of what the first one does is no evidence."""

IMAGES = 4
"""ImageCodes kept as evidence."""

PRIOR = 10
"""A word's images are joined by so many average ones: a word of one image, or of none, is only
the text tower's guess."""


@dataclass(frozen=True, kw_only=True)
class ImageCodes:
    """Encoded images, N of them, as evidence."""

    codes: Floats
    """(N, C), of the image tower."""
    sources: Sequence[str]
    """What each is known by."""
    tags: Sequence[Collection[str]]
    """The words each goes by."""
    held_out: NDArray[np.bool_]
    """(N,), those that were not trained on: how often a concept fires is counted on them."""


def name_concepts(words: Sequence[str], word_codes: Floats, images: ImageCodes) -> list[Concept]:
    """Names each of C concepts.

    `word_codes` (V, C) are the text tower's codes of the vocabulary `words`. A word speaks for a
    concept by the share of its own unit code that the concept holds (a word that fires everything
    a little names nothing), times the share that it holds in the images tagged with the word. A
    concept is active when it fires on at least two images that are held out.
    """
    image_codes, sources = images.codes, images.sources
    shares = unit(word_codes) * _support(words, images)
    fired = image_codes[images.held_out] > 0
    frequency = fired.mean(axis=0)
    image_mean, text_mean = image_codes.mean(axis=0), word_codes.mean(axis=0)
    # Each side is scaled to its own mean first, or the louder tower would own every concept.
    image_energy = image_mean / max(float(image_mean.mean()), 1e-12)
    text_energy = text_mean / max(float(text_mean.mean()), 1e-12)
    energy = image_energy + text_energy
    modality = np.divide(image_energy, energy, out=np.full_like(energy, 0.5), where=energy > 0)
    best_words = _top(shares, WORDS)
    best_images = _top(image_codes, IMAGES)
    concepts = []
    for k in range(word_codes.shape[1]):
        floor = FAINT * shares[best_words[k][0], k]
        mine = [w for w in best_words[k] if shares[w, k] > floor]
        shown = [i for i in best_images[k] if image_codes[i, k] > 0]
        concepts.append(
            Concept(
                id=k,
                name=words[mine[0]] if mine else f"concept {k}",
                aliases=tuple(words[w] for w in mine[1:4]),
                frequency=round(float(frequency[k]), 5),
                modality=round(float(modality[k]), 5),
                active=bool(fired[:, k].sum() >= 2),
                words=tuple(_evidence(words[w], shares[w, k]) for w in mine),
                images=tuple(_evidence(sources[i], image_codes[i, k]) for i in shown),
            )
        )
    return concepts


def _support(words: Sequence[str], images: ImageCodes) -> Floats:
    """For each word the mean unit code of the images tagged with it and PRIOR average ones;
    (V, C)."""
    place = {word: i for i, word in enumerate(words)}
    pairs = [(place[t], n) for n, tags in enumerate(images.tags) for t in tags if t in place]
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    shape = (len(words), len(images.tags))
    tagged = sparse.csr_array((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=shape)
    count: Floats = np.asarray(tagged.sum(axis=1))
    codes = unit(images.codes)
    support: Floats = (tagged @ codes + PRIOR * codes.mean(axis=0)) / (count + PRIOR)[:, None]
    return support.astype(np.float32)


def _evidence(source: str, value: float) -> Evidence:
    return Evidence(source=source, value=round(float(value), 5))


def _top(codes: Floats, count: int) -> NDArray[np.int64]:
    """The rows with the highest values of each column: (C, count)."""
    count = min(count, len(codes))
    part = np.argpartition(-codes, count - 1, axis=0)[:count]
    order = np.argsort(-np.take_along_axis(codes, part, axis=0), axis=0, kind="stable")
    result: NDArray[np.int64] = np.take_along_axis(part, order, axis=0).T
    return result
