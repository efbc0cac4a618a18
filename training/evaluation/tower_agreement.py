"""Whether the images and the texts that fire a concept are about the same things, by a judge.

Modality says how much of a concept's activation comes from images. A concept that images and texts
fire alike may still mean one thing to one tower and another thing to the other. So its images are
compared with its texts (the multimodal Monosemanticity Score of Pach et al. 2025): the mean cosine
over pairs of an image and a text of different things, weighted by the concept's activations on the
two. By chance: each concept's images with the texts of another concept.

N images, T texts, C concepts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.evaluation.clarity import CONCEPTS_PER_BLOCK, Doubles, JudgedImages, min_max
from training.evaluation.metrics import Floats


@dataclass(frozen=True, kw_only=True)
class TowerAgreement:
    """Means over the concepts that images and texts of different things fire."""

    judge: str
    concepts: int
    """How many these are."""
    agreement: float
    agreement_random: float
    """With the texts of another concept."""


def tower_agreement(
    image_codes: Floats,
    text_codes: Floats,
    images: JudgedImages,
    texts: JudgedImages,
    seed: int = 0,
) -> TowerAgreement | None:
    """The figure of codes (N, C) of images and (T, C) of texts; None when no concept has one."""
    a, b = min_max(image_codes), min_max(text_codes)
    others = np.random.default_rng(seed).permutation(b.shape[1])
    values = np.stack(
        [cross_cosine(a, b, images, texts), cross_cosine(a, b[:, others], images, texts)]
    )  # (2, C)
    finite = np.isfinite(values).all(axis=0)
    if not finite.any():
        return None
    means = values[:, finite].mean(axis=1).tolist()
    return TowerAgreement(
        judge=images.judge,
        concepts=int(finite.sum()),
        agreement=means[0],
        agreement_random=means[1],
    )


def cross_cosine(a: Floats, b: Floats, images: JudgedImages, texts: JudgedImages) -> Doubles:
    """For each concept (C,), the mean cosine over pairs of an image and a text of different things.

    A pair's weight is the product of the weights `a` (N, C) and `b` (T, C), which are not negative.
    The things of both are numbered alike. NaN where no pair has a weight.
    """
    shared = np.intersect1d(images.things, texts.things)
    rows = [np.flatnonzero(images.things == thing) for thing in shared]
    columns = [np.flatnonzero(texts.things == thing) for thing in shared]
    e, f = images.embeddings.astype(np.float64), texts.embeddings.astype(np.float64)
    blocks = []
    for start in range(0, a.shape[1], CONCEPTS_PER_BLOCK):
        part = slice(start, start + CONCEPTS_PER_BLOCK)
        v, w = a[:, part].astype(np.float64), b[:, part].astype(np.float64)
        cosines, mass = ((v.T @ e) * (w.T @ f)).sum(axis=1), v.sum(axis=0) * w.sum(axis=0)
        pairs = mass.copy()
        for i, j in zip(rows, columns, strict=True):
            cosines -= (v[i] * (e[i] @ f[j].T @ w[j])).sum(axis=0)
            pairs -= v[i].sum(axis=0) * w[j].sum(axis=0)
        has_pairs = pairs > 1e-9 * mass  # less is a rounding residue, not a real pair
        blocks.append(np.divide(cosines, pairs, out=np.full(len(pairs), np.nan), where=has_pairs))
    return np.concatenate(blocks)
