"""Do the images on which a concept fires belong together, in the eyes of another encoder?

N images, C concepts, E the width of the judge's embeddings.

Clarity and the Monosemanticity Score (Pach et al. 2025) are both a mean cosine over pairs of
images, weighted by what a concept's activations say of the two. The judge reads the images'
captions: no independent encoder of images ships in a package without pickled weights. So:

- Two images of one thing prove nothing. Drawings of an emoji in two styles have the same caption,
  hence a cosine of 1 whatever the concept sees in them. Pairs of one group (an emoji with its near
  relatives, as the data set has them) or of one caption do not count, on either side of the mean. A
  concept that fires on a single thing has no figure, and is counted as such.
- It judges what images are called, not how they look: a concept of a colour or of a shape scores
  low here, however clear it is to the eye. And captions are what the model was trained to match.
- Captions set the scale, and short ones alike in form ("flag: ...") raise it. A figure means
  something only beside the same figure of random images, which goes wherever it goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from training.evaluation.metrics import Floats, Ints

FIRES = 0.001
"""An activation above this counts as firing (arXiv 2601.20075)."""

BLOCK = 512
"""Concepts taken at a time."""

Doubles = NDArray[np.float64]


class Judge(Protocol):
    """A text encoder that is independent of the model it judges."""

    name: str

    def __call__(self, texts: Sequence[str]) -> Floats:
        """Unit embeddings (B, E)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Images as a judge sees them."""

    judge: str
    embeddings: Floats
    """(N, E), of unit length."""
    things: Ints
    """(N,), what each shows: pairs of one thing do not count."""


@dataclass(frozen=True, kw_only=True)
class Clarity:
    """Means over concepts, each beside that of random images: the same activations, dealt anew.

    1 would mean that the different things on which a concept fires have one name.
    """

    judge: str
    concepts: int
    """Concepts that have a figure: they fire on images of at least two things."""
    clarity: float
    clarity_random: float
    monosemanticity: float
    monosemanticity_random: float


def judge_images(metas: Sequence[Mapping[str, Any]], judge: Judge) -> Judged:
    """Embeds the captions of images, given by their metadata."""
    captions = [str(m["caption"]) for m in metas]
    distinct = sorted(set(captions))
    place = {caption: i for i, caption in enumerate(distinct)}
    group: dict[str, str] = {}
    for caption, meta in zip(captions, metas, strict=True):
        group.setdefault(caption.casefold(), str(meta["group"] or caption.casefold()))
    _, things = np.unique([group[c.casefold()] for c in captions], return_inverse=True)
    return Judged(
        judge=judge.name,
        embeddings=judge(distinct)[[place[c] for c in captions]],
        things=things,
    )


def concept_clarity(codes: Floats, images: Judged) -> Doubles:
    """Clarity of each concept (C,), from codes (N, C): the mean cosine of pairs of images on
    which it fires. NaN for a concept that fires on fewer than two things."""
    return mean_cosine(fired(codes), images)


def measure_clarity(codes: Floats, images: Judged, seed: int = 0) -> Clarity | None:
    """Both figures of codes (N, C) beside their baselines; None when no concept has any."""
    deal = np.random.default_rng(seed)
    found = []
    for weights in (fired(codes), min_max(codes)):
        # Each concept keeps its number of images, or its activations, but on random images.
        dealt = deal.permuted(weights, axis=0)
        found += [mean_cosine(weights, images), mean_cosine(dealt, images)]
    values = np.stack(found)
    known = np.isfinite(values).all(axis=0)
    if not known.any():
        return None
    means = values[:, known].mean(axis=1).tolist()
    return Clarity(
        judge=images.judge,
        concepts=int(known.sum()),
        clarity=means[0],
        clarity_random=means[1],
        monosemanticity=means[2],
        monosemanticity_random=means[3],
    )


def fired(codes: Floats) -> Floats:
    """1 where a code counts as firing, else 0; (N, C)."""
    return (codes > FIRES).astype(np.float32)


def min_max(codes: Floats) -> Floats:
    """Each concept's codes scaled to [0, 1]; a constant one becomes 0; (N, C)."""
    low = codes.min(axis=0)
    result: Floats = (codes - low) / np.maximum(codes.max(axis=0) - low, 1e-12)
    return result


def mean_cosine(weights: Floats, images: Judged) -> Doubles:
    """For each concept, the mean cosine over pairs of images of different things, a pair's weight
    being the product of its images' `weights` (N, C) >= 0. NaN where no pair has any; (C,).

    In closed form: over all pairs (i, j) the weighted cosines add up to |sum w_i e_i|^2 and the
    weights to (sum w_i)^2, from which each thing's own pairs, itself with itself included, are
    taken away. With every image a thing of its own and weights of 1 it is
    (|S|^2 - n) / (n (n - 1)).
    """
    order = np.argsort(images.things, kind="stable")
    ends = np.cumsum(np.bincount(images.things)).tolist()
    embeddings = images.embeddings[order].astype(np.float64)
    blocks = []
    for start in range(0, weights.shape[1], BLOCK):
        w = weights[order, start : start + BLOCK].astype(np.float64)
        mass = w.sum(axis=0) ** 2
        cosines, pairs = ((w.T @ embeddings) ** 2).sum(axis=1), mass.copy()
        for first, last in zip([0, *ends[:-1]], ends, strict=True):
            mine, own = w[first:last], embeddings[first:last]
            cosines -= (mine * (own @ own.T @ mine)).sum(axis=0)
            pairs -= mine.sum(axis=0) ** 2
        there = pairs > 1e-9 * mass  # what is left of a difference of equals is none
        blocks.append(np.divide(cosines, pairs, out=np.full(len(pairs), np.nan), where=there))
    return np.concatenate(blocks)
