"""Names for concepts: the words of the training images that activate them.

Names, and all that is said of a concept beside its clarity, are fitted on images that were trained
on. So held-out images can tell how good the names are (benchmarks/names.py).

V words, N images, C concepts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bundle.codes import ACTIVE_ROWS
from bundle.concepts import ConceptEvidence, NamedConcept, unnamed
from training.evaluation.firing import norms, sparse_codes, strongest
from training.evaluation.metrics import Floats
from training.evaluation.name_qualifiers import ConceptName, told_apart
from training.evaluation.name_trials import BestWords, calibrate, find_hubs

WORDS_KEPT = 5
"""Words that a concept keeps: the first is its name, the next three are its aliases."""

TOWER_WEIGHT = 0.5
"""The text tower's say in a name, as the sum of unit codes of so many images. It decides where few
images have words."""

MIN_RELATIVE_SCORE = 0.1
"""Words scoring below this fraction of the best word's score are dropped."""

IMAGES_KEPT = 4
"""Images that a concept keeps as evidence."""

CONCEPTS_PER_BLOCK = 512
"""Concepts whose scores by all words exist at a time."""

PRIOR_IMAGES = 10
"""Pseudo-count: each word is smoothed with this many average images, as a word with few or no
images rests on the text tower alone."""


@dataclass(frozen=True, kw_only=True)
class ImageCodes:
    """The codes of N training images, with what is known about each image."""

    codes: Floats
    """(N, C), from the image tower."""
    sources: Sequence[str]
    """(N,), the source that a concept's evidence names."""
    tags: Sequence[Collection[str]]
    """(N,), each image's caption and keywords of at most two words, by which concepts are named."""
    words: Sequence[Collection[str]]
    """(N,), the single words of each image's caption and keywords, which bear a name out."""


def name_concepts(
    words: Sequence[str], word_codes: Floats | sparse.csr_array, images: ImageCodes
) -> list[NamedConcept]:
    """Names each of C concepts.

    `word_codes` (V, C) are the text tower's codes of the vocabulary `words`; sparse ones take a
    fraction of the memory. A concept's name is the word that says most about the images on which it
    fires: see `ConceptNaming.names`. Its other words are those that activate it most in the text
    tower and are borne out by images: see `ConceptNaming.words_kept`.

    Where there are enough images, names have a confidence, and one below the threshold of
    NameCalibration becomes `concept N (unnamed)`; its words stay as evidence. Of concepts with the
    same best word all but one get a qualifier, and that word as an alias: see name_qualifiers.
    """
    naming = ConceptNaming(words, word_codes, images)
    every = np.arange(len(images.codes))
    names = naming.names(every)
    kept = naming.words_kept(names)
    calibration = calibrate(naming.codes, images.words, words, naming.names)
    fired = naming.codes.tocsc()
    best_images = strongest(fired, IMAGES_KEPT)
    hubs = find_hubs(naming.codes, images.words, [[words[w] for w, _ in own] for own in kept])
    times = np.diff(fired.indptr)
    frequency, active = times / len(images.codes), times >= ACTIVE_ROWS
    modality = naming.modality()
    concepts = []
    for k, (fit, own) in enumerate(zip(names.scores.tolist(), kept, strict=True)):
        confidence = None
        if calibration is not None and fit > 0:
            confidence = calibration.confidence(fit)
        is_named = fit > 0 and (calibration is None or calibration.is_kept(confidence))
        evidence = tuple(_evidence(words[w], score) for w, score in own)
        concepts.append(
            NamedConcept(
                id=k,
                name=evidence[0].source if is_named else unnamed(k),
                aliases=tuple(e.source for e in evidence[1:4]) if is_named else (),
                name_confidence=None if confidence is None else round(confidence, 3),
                hub=bool(hubs[k]),
                frequency=round(float(frequency[k]), 5),
                modality=None if np.isnan(modality[k]) else round(float(modality[k]), 5),
                active=bool(active[k]),
                words=evidence,
                images=tuple(
                    _evidence(images.sources[i], images.codes[i, k])
                    for i in best_images[k].tolist()
                ),
            )
        )
    shared = [ConceptName(c.id, c.name, c.words[0].value) for c in concepts if c.is_named]
    described = [{*w, *t} for w, t in zip(images.words, images.tags, strict=True)]
    for k, qualifier in told_apart(shared, naming.codes, described).items():
        name = concepts[k].name
        concepts[k] = dataclasses.replace(
            concepts[k], name=f"{name} ({qualifier})", aliases=(name, *concepts[k].aliases)
        )
    return concepts


class ConceptNaming:
    """The scores of words for concepts, on any part of the images."""

    def __init__(
        self, words: Sequence[str], word_codes: Floats | sparse.csr_array, images: ImageCodes
    ) -> None:
        row = {word: i for i, word in enumerate(words)}
        pairs = [(row[tag], n) for n, tags in enumerate(images.tags) for tag in tags if tag in row]
        rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        values = np.ones(len(rows), dtype=np.float32)
        self._tagged = sparse.csr_array((values, (rows, columns)), (len(words), len(images.tags)))
        self._has_tag = np.asarray(self._tagged.sum(axis=0)).ravel() > 0
        self._image_codes = images.codes
        self._word_codes = sparse.csc_array(word_codes)
        # Unit codes. Few values are not zero, and only where a word's is not can its score be.
        self.codes = sparse_codes(images.codes)
        units = self.codes.tocsc()
        units.data /= _safe(norms(images.codes))[units.indices]
        squares = self._word_codes.multiply(self._word_codes).sum(axis=1)
        self._words = self._word_codes.astype(np.float32)
        self._words.data /= _safe(np.sqrt(np.asarray(squares).ravel()))[self._words.indices]
        concepts = images.codes.shape[1]
        starts = range(0, concepts, CONCEPTS_PER_BLOCK)
        # The support of all words for all concepts would take gigabytes.
        self._blocks = [slice(start, start + CONCEPTS_PER_BLOCK) for start in starts]
        self._units = [units[:, block].tocsr() for block in self._blocks]

    def names(self, images: NDArray[np.int64]) -> BestWords:
        """Each concept's name by these of the N images, and how well it fits.

        Of concept k's activation, in unit codes, on the images that have words, word w has the
        share p(w | k) that falls on images tagged with it, and of these images w has the share
        p(w). The name has the largest p(w | k) log(p(w | k) / p(w)), in nats: its part of the
        information about words that k's firing gives. A word of two images says little of a
        concept that fires on many, and a word of all images says nothing. The text tower's
        shares have the weight TOWER_WEIGHT in p(w | k). Where no image has words, they alone name
        what fires on images.
        """
        counted = np.zeros(len(self._image_codes), dtype=np.float32)
        counted[images] = 1
        has_words = bool(self._has_tag.any())
        if has_words:
            counted[~self._has_tag] = 0
        tagged = self._tagged.copy()
        tagged.data = counted[tagged.indices]
        of_words = np.asarray(tagged.sum(axis=1), dtype=np.float32).ravel()
        base = (of_words + 1) / (counted.sum() + 1)
        if not has_words:
            base[:] = 1 / len(base)
        words: list[NDArray[np.int64]] = []
        scores: list[Floats] = []
        for block, units in zip(self._blocks, self._units, strict=True):
            tower = self._words[:, block].toarray()
            tower *= TOWER_WEIGHT / _safe(tower.sum(axis=0))
            mass = counted @ units
            share = (tagged @ units).toarray() + tower  # (V, block)
            share /= mass * has_words + TOWER_WEIGHT
            share *= mass > 0  # what fires on no image has no name
            # 0 log 0 is 0.
            share *= np.log(np.maximum(share, 1e-12) / base[:, None])
            words.append(share.argmax(axis=0))
            scores.append(share.max(axis=0))
        return BestWords(np.concatenate(words), np.concatenate(scores))

    def words_kept(self, names: BestWords) -> list[list[tuple[int, float]]]:
        """Each concept's words with their scores, by all images: the name, then up to WORDS_KEPT in
        all of the best others, best first.

        A word's score is the concept's value in the word's unit code, times the concept's mean
        value in the unit codes of images tagged with the word. So a word that activates every
        concept a little scores low everywhere.
        """
        every = np.ones(len(self._image_codes), dtype=np.float32)
        of_words: Floats = np.asarray(self._tagged.sum(axis=1)).ravel()
        kept = []
        for block, units in zip(self._blocks, self._units, strict=True):
            own = self._words[:, block]
            mean = every @ units / len(every)
            support = (self._tagged @ units).toarray()  # (V, block): sums over each word's images
            column = np.repeat(np.arange(own.shape[1]), np.diff(own.indptr))
            # each word's mean image, with PRIOR_IMAGES average ones
            values = support[own.indices, column] + PRIOR_IMAGES * mean[column]
            values *= own.data / (of_words[own.indices] + PRIOR_IMAGES)
            for k, (start, end) in enumerate(pairwise(own.indptr.tolist()), block.start):
                best = start + np.argsort(-values[start:end], kind="stable")
                score = dict(zip(own.indices[best].tolist(), values[best].tolist(), strict=True))
                least = MIN_RELATIVE_SCORE * max(score.values(), default=0)
                name = [int(names.words[k])] if names.scores[k] > 0 else []
                ranked = [w for w in score if score[w] > least and w not in name]
                ids = [*name, *ranked[: WORDS_KEPT - len(name)]]
                kept.append([(w, score.get(w, 0.0)) for w in ids])
        return kept

    def modality(self) -> Floats:
        """(C,): the share of each concept's activation that comes from images. NaN for a concept
        that fires for neither.

        Texts are the words with which training images are tagged, which the text tower knows. Each
        tower is scaled by its mean, or the one with larger codes would claim every concept.
        """
        known = np.asarray(self._tagged.sum(axis=1)) > 0
        image_mean = self._image_codes.mean(axis=0)
        text_sum = np.asarray(self._word_codes.T @ known.astype(np.float32))
        text_mean = text_sum / max(int(known.sum()), 1)
        image_energy = image_mean / max(float(image_mean.mean()), 1e-12)
        text_energy = text_mean / max(float(text_mean.mean()), 1e-12)
        energy = image_energy + text_energy
        nothing = np.full_like(energy, np.nan)
        share: Floats = np.divide(image_energy, energy, out=nothing, where=energy > 0)
        return share


def _safe(norms: Floats) -> Floats:
    """Lengths to divide by: zero rows stay zero."""
    result: Floats = np.maximum(norms, 1e-6).astype(np.float32)
    return result


def _evidence(source: str, value: float) -> ConceptEvidence:
    return ConceptEvidence(source=source, value=round(float(value), 5))
