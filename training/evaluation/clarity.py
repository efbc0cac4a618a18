"""Clarity: whether the images on which a concept fires belong together, judged by another encoder.

N images, C concepts, E width of the judge's embeddings.

Clarity and the Monosemanticity Score (Pach et al. 2025) are both a mean cosine over pairs of
images, weighted by the concept's activations on the two. The judge reads the images' captions,
because no independent image encoder is available as a package without pickled weights. This has
three consequences:

- Two images of one thing prove nothing. Drawings of an emoji in two styles have one caption, so
  their cosine is 1 whatever the concept detects. Pairs within a group of the data set (an emoji and
  its near relatives) or with equal captions are left out of both sums. A concept that fires on a
  single thing has no figure and is not counted.
- Clarity judges what images are called, not how they look. A concept for a colour or a shape scores
  low, however clear it is to the eye. Captions are also what the model was trained to match.
- The captions set the scale, and short captions of one form ("flag: ...") raise it. The figure is
  only meaningful next to its random baseline, so the two are always reported together.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bundle.codes import ACTIVE_ABOVE
from training.evaluation.metrics import Floats, Ints

log = logging.getLogger(__name__)

CONCEPTS_PER_BLOCK = 512
"""Concepts whose float64 copies exist at a time."""

Doubles = NDArray[np.float64]


class Judge(Protocol):
    """A text encoder, which should be independent of the model that it judges (`named_judge`)."""

    name: str

    def __call__(self, texts: Sequence[str]) -> Floats:
        """Unit embeddings (B, E)."""
        ...


class OwnJudge:
    """A judge on which the text tower of the model stands. Its name says so."""

    def __init__(self, judge: Judge) -> None:
        self.name, self._judge = f"{judge.name} (the text tower's own)", judge

    def __call__(self, texts: Sequence[str]) -> Floats:
        """See Judge."""
        return self._judge(texts)


def named_judge(judge: Judge | None, text_encoder: str) -> Judge | None:
    """The judge of a model whose text tower stands on the encoder with the digest `text_encoder`,
    which is empty for none. Warns when that is the judge's `weights_sha256`, if it has one."""
    if judge is None or not text_encoder:
        return judge
    if getattr(judge, "weights_sha256", None) != text_encoder:
        return judge
    log.warning(
        "clarity: the model's text tower stands on %s, so this is no independent judge", judge.name
    )
    return OwnJudge(judge)


@dataclass(frozen=True, kw_only=True)
class JudgedImages:
    """Images as the judge embeds them."""

    judge: str
    """Name of the judge."""
    embeddings: Floats
    """(N, E), rows of unit length."""
    things: Ints
    """(N,), a number for the thing that each image shows; pairs of one thing do not count."""

    def part(self, rows: slice) -> JudgedImages:
        """Some of the images, with the same numbers of things."""
        return JudgedImages(
            judge=self.judge, embeddings=self.embeddings[rows], things=self.things[rows]
        )


@dataclass(frozen=True, kw_only=True)
class Clarity:
    """Means over concepts, each with its random baseline: the same activations on random images.

    A value of 1 would mean that all things on which a concept fires have one name.
    """

    judge: str
    concepts: int
    """Number of concepts that have a figure: they fire on images of at least two things."""
    clarity: float
    clarity_random: float
    monosemanticity: float
    monosemanticity_random: float


def judge_images(metas: Sequence[Mapping[str, Any]], judge: Judge) -> JudgedImages:
    """Embeds the captions in the images' metadata."""
    captions = [str(m["caption"]) for m in metas]
    distinct = sorted(set(captions))
    row = {caption: i for i, caption in enumerate(distinct)}
    group: dict[str, str] = {}
    for caption, meta in zip(captions, metas, strict=True):
        group.setdefault(caption.casefold(), str(meta["group"] or caption.casefold()))
    _, things = np.unique([group[c.casefold()] for c in captions], return_inverse=True)
    return JudgedImages(
        judge=judge.name,
        embeddings=judge(distinct)[[row[c] for c in captions]],
        things=things,
    )


def concept_clarity(codes: Floats, images: JudgedImages) -> Doubles:
    """Clarity (C,) of codes (N, C): for each concept the mean cosine of pairs of images on which it
    fires. NaN for a concept that fires on fewer than two things."""
    return mean_cosine(fired(codes), images)


def measure_clarity(codes: Floats, images: JudgedImages, seed: int = 0) -> Clarity | None:
    """Both figures of codes (N, C) with their baselines; None when no concept has a figure."""
    generator = np.random.default_rng(seed)
    figures = []
    for weights in (fired(codes), min_max(codes)):
        # The baseline: each concept keeps its activations, but on randomly chosen images.
        shuffled = generator.permuted(weights, axis=0)
        figures += [mean_cosine(weights, images), mean_cosine(shuffled, images)]
    values = np.stack(figures)  # (4, C)
    finite = np.isfinite(values).all(axis=0)
    if not finite.any():
        return None
    means = values[:, finite].mean(axis=1).tolist()
    return Clarity(
        judge=images.judge,
        concepts=int(finite.sum()),
        clarity=means[0],
        clarity_random=means[1],
        monosemanticity=means[2],
        monosemanticity_random=means[3],
    )


def fired(codes: Floats) -> Floats:
    """(N, C): 1 where a code counts as firing, else 0."""
    return (codes > ACTIVE_ABOVE).astype(np.float32)


def min_max(codes: Floats) -> Floats:
    """(N, C): each concept's codes scaled to [0, 1]; constant codes become 0."""
    low = codes.min(axis=0)
    result: Floats = (codes - low) / np.maximum(codes.max(axis=0) - low, 1e-12)
    return result


def mean_cosine(weights: Floats, images: JudgedImages) -> Doubles:
    """For each concept (C,), the mean cosine over pairs of images of different things.

    A pair's weight is the product of its two images' `weights` (N, C), which are not negative. NaN
    where no pair has a weight.

    Over all pairs (i, j) the weighted cosines sum to |sum w_i e_i|^2, and the weights to
    (sum w_i)^2. The pairs within each thing, which include (i, i), are subtracted from both. When
    every image shows another thing and all n weights are 1, this gives
    (|sum e_i|^2 - n) / (n (n - 1)).
    """
    order = np.argsort(images.things, kind="stable")
    ends = np.cumsum(np.bincount(images.things)).tolist()
    embeddings = images.embeddings[order].astype(np.float64)
    blocks = []
    for start in range(0, weights.shape[1], CONCEPTS_PER_BLOCK):
        w = weights[order, start : start + CONCEPTS_PER_BLOCK].astype(np.float64)
        mass = w.sum(axis=0) ** 2
        cosines, pairs = ((w.T @ embeddings) ** 2).sum(axis=1), mass.copy()
        for first, last in zip([0, *ends[:-1]], ends, strict=True):
            thing_w, thing = w[first:last], embeddings[first:last]
            cosines -= (thing_w * (thing @ thing.T @ thing_w)).sum(axis=0)
            pairs -= thing_w.sum(axis=0) ** 2
        has_pairs = pairs > 1e-9 * mass  # less is a rounding residue, not a real pair
        blocks.append(np.divide(cosines, pairs, out=np.full(len(pairs), np.nan), where=has_pairs))
    return np.concatenate(blocks)
