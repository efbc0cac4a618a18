"""Zero-shot, retrieval and sparsity figures. N images, L labels, C concepts, G groups.

Ties are broken at random, in expectation: a row whose own label shares rank 1 with three others is
a quarter of a hit. So codes that are all zero, or all equal, score what guessing scores, whatever
the order of the labels (Sun et al., ACL 2020, "A Re-evaluation of Knowledge Graph Completion
Methods"). A code with a number that is not finite is no hit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.codes import ACTIVE_ABOVE, ACTIVE_ROWS

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A rate in percent, with its standard error."""

    percent: float
    error: float
    """Standard error in percentage points, clustered by group: images of one codepoint are not
    independent."""


@dataclass(frozen=True, kw_only=True)
class ZeroShot:
    """How often an image's nearest labels include its own, and a label's nearest images one of its
    own."""

    images: int
    labels: int
    chance: float
    """Top-1 of random guessing, in percent."""
    top1: Rate
    top5: Rate
    text_to_image_1: Rate
    text_to_image_5: Rate


@dataclass(frozen=True, kw_only=True)
class Sparsity:
    """How many codes are active: above ACTIVE_ABOVE."""

    l0: float
    """Mean active concepts per row."""
    l0_share: float
    """L0 in percent of C."""
    active: float
    """Percent of concepts that fire on at least two rows."""
    dead: float
    """Percent that never fire."""


def unit(codes: Floats) -> Floats:
    """Rows of unit length; zero rows stay zero."""
    norm = np.linalg.norm(codes, axis=1, keepdims=True)
    result: Floats = codes / np.maximum(norm, 1e-6)
    return result


def zero_shot(image: Floats, text: Floats, label: Ints, group: list[str]) -> ZeroShot:
    """Classifies images (N, C) among label texts (L, C) by cosine, and retrieves images by text.

    `label` (N,) is the index of each image's label; `group` (N,) clusters the standard errors. A
    label text is found when any image of that label is among its nearest images.
    """
    cosine = unit(image) @ unit(text).T
    one_right = np.zeros(cosine.shape, dtype=bool)  # (N, L), an image's one right label
    np.put_along_axis(one_right, label[:, None], True, axis=1)
    present = np.unique(label)  # labels that have an image
    by_text, own = cosine.T[present], one_right.T[present]  # (L', N), a label's own images
    label_group = [group[int(np.argmax(row))] for row in own]
    return ZeroShot(
        images=len(image),
        labels=len(text),
        chance=100 / len(text),
        top1=rate(top_hits(cosine, one_right, 1), group),
        top5=rate(top_hits(cosine, one_right, 5), group),
        text_to_image_1=rate(top_hits(by_text, own, 1), label_group),
        text_to_image_5=rate(top_hits(by_text, own, 5), label_group),
    )


def top_hits(scores: Floats, right: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
    """For each row of `scores` (Q, M), the probability (Q,) that one of its `right` candidates is
    among the k highest, when candidates of equal score are put in random order."""
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    # NaN is neither above nor below: a candidate without a number counts as better than `best`.
    above = (~(scores <= best)).sum(axis=1)
    tied = scores == best
    wrong = (tied & ~right).sum(axis=1)
    seats = np.clip(k - above, 0, tied.sum(axis=1))  # of the tied ones, how many are among the k
    missed = np.ones(len(scores))  # the probability that all seats go to wrong candidates
    for seat in range(k):
        left = np.maximum(tied.sum(axis=1) - seat, 1)
        missed = np.where(seat < seats, missed * np.maximum(wrong - seat, 0) / left, missed)
    return 1.0 - missed


def rate(hits: NDArray[np.bool_] | NDArray[np.float64], group: list[str]) -> Rate:
    """The rate of hits (N,), each in [0, 1], with its standard error clustered by `group` (N,)."""
    p = float(hits.mean())
    _, cluster = np.unique(np.asarray(group), return_inverse=True)
    residual = np.bincount(cluster, weights=hits - p)  # (G,)
    error = float(np.sqrt((residual**2).sum()) / len(hits))
    return Rate(percent=100 * p, error=100 * error)


def sparsity(codes: Floats) -> Sparsity:
    """Sparsity of codes (N, C)."""
    fired = codes > ACTIVE_ABOVE
    counts = fired.sum(axis=0)
    concepts = codes.shape[1]
    l0 = float(fired.sum(axis=1).mean())
    return Sparsity(
        l0=l0,
        l0_share=100 * l0 / concepts,
        active=100 * float((counts >= ACTIVE_ROWS).mean()),
        dead=100 * float((counts == 0).mean()),
    )
