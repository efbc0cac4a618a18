"""Names for concepts: the words whose text codes activate them, checked against images.

V words, N images, C concepts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bundle.concepts import ConceptEvidence, NamedConcept
from training.evaluation.metrics import Floats, unit

WORDS_KEPT = 5
"""Words that a concept keeps: the first is its name, the next three are its aliases."""

MIN_RELATIVE_SCORE = 0.1
"""Words scoring below this fraction of the best word's score are dropped."""

IMAGES_KEPT = 4
"""Images that a concept keeps as evidence."""

PRIOR_IMAGES = 10
"""Pseudo-count: each word is smoothed with this many average images, as a word with few or no
images rests on the text tower alone."""


@dataclass(frozen=True, kw_only=True)
class ImageCodes:
    """The codes of N images, with what is known about each image."""

    codes: Floats
    """(N, C), from the image tower."""
    sources: Sequence[str]
    """(N,), the source that a concept's evidence names."""
    tags: Sequence[Collection[str]]
    """(N,), the words of each image's caption and keywords."""
    held_out: NDArray[np.bool_]
    """(N,), true for images that were not trained on. Frequencies are counted on these."""


def name_concepts(
    words: Sequence[str], word_codes: Floats, images: ImageCodes
) -> list[NamedConcept]:
    """Names each of C concepts.

    `word_codes` (V, C) are the text tower's codes of the vocabulary `words`. A word's score for a
    concept is the concept's value in the word's unit code, times the concept's mean value in the
    unit codes of images tagged with the word. So a word that activates every concept a little
    scores low everywhere. A concept is active when it fires on at least two held-out images.
    """
    image_codes, sources = images.codes, images.sources
    scores = unit(word_codes) * _support(words, images)  # (V, C)
    fired = image_codes[images.held_out] > 0
    frequency = fired.mean(axis=0)
    image_mean, text_mean = image_codes.mean(axis=0), word_codes.mean(axis=0)
    # Each tower is scaled by its mean, or the one with larger codes would claim every concept.
    image_energy = image_mean / max(float(image_mean.mean()), 1e-12)
    text_energy = text_mean / max(float(text_mean.mean()), 1e-12)
    energy = image_energy + text_energy
    modality = np.divide(image_energy, energy, out=np.full_like(energy, 0.5), where=energy > 0)
    best_words = _top(scores, WORDS_KEPT)
    best_images = _top(image_codes, IMAGES_KEPT)
    concepts = []
    for k in range(word_codes.shape[1]):
        floor = MIN_RELATIVE_SCORE * scores[best_words[k][0], k]
        top_words = [w for w in best_words[k] if scores[w, k] > floor]
        top_images = [i for i in best_images[k] if image_codes[i, k] > 0]
        concepts.append(
            NamedConcept(
                id=k,
                name=words[top_words[0]] if top_words else f"concept {k}",
                aliases=tuple(words[w] for w in top_words[1:4]),
                frequency=round(float(frequency[k]), 5),
                modality=round(float(modality[k]), 5),
                active=bool(fired[:, k].sum() >= 2),
                words=tuple(_evidence(words[w], scores[w, k]) for w in top_words),
                images=tuple(_evidence(sources[i], image_codes[i, k]) for i in top_images),
            )
        )
    return concepts


def _support(words: Sequence[str], images: ImageCodes) -> Floats:
    """(V, C): for each word the mean unit code of the images tagged with it and of PRIOR_IMAGES
    average ones."""
    row = {word: i for i, word in enumerate(words)}
    pairs = [(row[tag], n) for n, tags in enumerate(images.tags) for tag in tags if tag in row]
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    shape = (len(words), len(images.tags))
    tagged = sparse.csr_array((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=shape)
    count: Floats = np.asarray(tagged.sum(axis=1))
    codes = unit(images.codes)
    summed = tagged @ codes + PRIOR_IMAGES * codes.mean(axis=0)
    support: Floats = summed / (count + PRIOR_IMAGES)[:, None]
    return support.astype(np.float32)


def _evidence(source: str, value: float) -> ConceptEvidence:
    return ConceptEvidence(source=source, value=round(float(value), 5))


def _top(codes: Floats, count: int) -> NDArray[np.int64]:
    """(C, count): the rows with the highest values of each column, highest first."""
    count = min(count, len(codes))
    part = np.argpartition(-codes, count - 1, axis=0)[:count]
    order = np.argsort(-np.take_along_axis(codes, part, axis=0), axis=0, kind="stable")
    result: NDArray[np.int64] = np.take_along_axis(part, order, axis=0).T
    return result
