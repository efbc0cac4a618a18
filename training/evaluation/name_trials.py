"""How far names can be trusted, by trials on images that were held back; and which concepts are
hubs. N images, C concepts, M trials.

A trial fits the names on four fifths of the training images and looks at the other fifth: is the
name of a concept in the caption or keywords of one of the four images there on which it is
strongest? That gives the share of names of a score that are borne out, and nothing of the held-out
splits enters it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import isotonic_regression

from training.evaluation.firing import strongest
from training.evaluation.metrics import Floats

FOLDS = 5
STRONGEST_IMAGES = 4
"""A trial looks at so many images of the fifth that was held back."""

MIN_TRIALS = 200
"""With fewer, names have no confidence."""

KEPT_FROM = 0.5
"""A name is kept from this share of the mean confidence on."""

STRONGEST_CONCEPTS = 10
"""A concept occurs in an image when it is among its so many strongest ones."""

HUB_DEVIATIONS = 2.0
"""A concept that occurs more often than the mean by so many standard deviations may be a hub
(Radovanovic et al., JMLR 2010, "Hubs in Space")."""

HUB_BORNE_OUT = 0.5
"""It is one unless this share of the images in which it occurs hold one of its words."""


class BestWords(NamedTuple):
    """Each concept's best word by some of the images."""

    words: NDArray[np.int64]
    """(C,), indices into the vocabulary."""
    scores: Floats
    """(C,), 0 where no word fits."""


@dataclass(frozen=True, kw_only=True)
class NameCalibration:
    """The share of names that trials bear out, by the score of the name."""

    scores: Floats
    """(M,), ascending."""
    shares: NDArray[np.float64]
    """(M,), not decreasing."""
    mean: float
    """The share of all trials."""
    random: float
    """The same where each concept has the name of another: what chance bears out."""

    def confidence(self, score: float) -> float:
        """The share of a score."""
        return float(np.interp(score, self.scores, self.shares))

    def is_kept(self, confidence: float | None) -> bool:
        """Whether a name of this confidence is shown."""
        return confidence is not None and confidence >= self.threshold

    @property
    def threshold(self) -> float:
        """The confidence from which on a name is shown."""
        return KEPT_FROM * self.mean


def words_of(meta: Mapping[str, Any]) -> frozenset[str]:
    """The single words of a sample's caption and keywords, in lower case."""
    text = " ".join([str(meta["caption"]), *map(str, meta.get("keywords") or ())])
    return frozenset(parts_of(text))


def parts_of(name: str) -> list[str]:
    """The single words of a name."""
    return re.findall(r"[^\W_]+", name.lower())


def is_borne_out(parts: Collection[str], words: Collection[str]) -> bool:
    """Whether all parts of a name are among the words of an image."""
    return bool(parts) and all(part in words for part in parts)


def calibrate(
    codes: sparse.csr_array,
    image_words: Sequence[Collection[str]],
    names: Sequence[str],
    fit: Callable[[NDArray[np.int64]], BestWords],
) -> NameCalibration | None:
    """Calibrates names on codes (N, C) of training images. None with fewer trials than MIN_TRIALS.

    `fit` gives the best words by some of the images, as indices into `names`.
    """
    images = codes.shape[0]
    generator = np.random.default_rng(0)
    fold = generator.integers(0, FOLDS, images)
    scores: list[float] = []
    hits: list[bool] = []
    chance: list[bool] = []
    for number in range(FOLDS):
        held_back, fitted = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        if not len(held_back) or not len(fitted):
            continue
        best = fit(fitted)
        own = [parts_of(names[word]) for word in best.words.tolist()]
        others = [own[k] for k in generator.permutation(len(own)).tolist()]
        top = strongest(codes[held_back].tocsc(), STRONGEST_IMAGES)
        for k, rows in enumerate(top):
            if not len(rows) or best.scores[k] <= 0:
                continue
            of_rows = [image_words[row] for row in held_back[rows].tolist()]
            scores.append(float(best.scores[k]))
            hits.append(any(is_borne_out(own[k], words) for words in of_rows))
            chance.append(any(is_borne_out(others[k], words) for words in of_rows))
    if len(scores) < MIN_TRIALS:
        return None
    order = np.argsort(scores, kind="stable")
    return NameCalibration(
        scores=np.array(scores, dtype=np.float32)[order],
        shares=isotonic_regression(np.array(hits, dtype=float)[order]).x,
        mean=float(np.mean(hits)),
        random=float(np.mean(chance)),
    )


def find_hubs(
    codes: sparse.csr_array,
    image_words: Sequence[Collection[str]],
    names: Sequence[Sequence[str]],
) -> NDArray[np.bool_]:
    """(C,): the concepts that are strong in many images which none of their words describes.
    `names` has the words of each concept."""
    occurs_in: list[list[int]] = [[] for _ in range(codes.shape[1])]
    for image, concepts in enumerate(strongest(codes, STRONGEST_CONCEPTS)):
        for k in concepts.tolist():
            occurs_in[k].append(image)
    often = np.array([len(images) for images in occurs_in])
    hubs: NDArray[np.bool_] = often > often.mean() + HUB_DEVIATIONS * often.std()
    for k in np.flatnonzero(hubs).tolist():
        parts = [parts_of(name) for name in names[k]]
        described = [
            any(is_borne_out(name, image_words[image]) for name in parts) for image in occurs_in[k]
        ]
        hubs[k] = np.mean(described) < HUB_BORNE_OUT
    return hubs
