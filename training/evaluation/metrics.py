"""Zero-shot, retrieval and sparsity figures. N images, L labels, C concepts, G groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    """How many codes are above 0."""

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
    true_cosine = np.take_along_axis(cosine, label[:, None], axis=1)
    label_rank = (cosine > true_cosine).sum(axis=1)  # (N,), 0 when the own label is the nearest
    image_rank = np.full(len(text), np.inf)  # (L,), of each label's nearest own image
    for j in range(len(text)):
        of_label = label == j
        if of_label.any():
            image_rank[j] = (cosine[:, j] > cosine[of_label, j].max()).sum()
    present = np.flatnonzero(np.isfinite(image_rank))  # labels that have an image
    image_rank = image_rank[present]
    label_group = [group[int(np.flatnonzero(label == j)[0])] for j in present]
    return ZeroShot(
        images=len(image),
        labels=len(text),
        chance=100 / len(text),
        top1=rate(label_rank < 1, group),
        top5=rate(label_rank < 5, group),
        text_to_image_1=rate(image_rank < 1, label_group),
        text_to_image_5=rate(image_rank < 5, label_group),
    )


def rate(hits: NDArray[np.bool_], group: list[str]) -> Rate:
    """The rate of hits (N,), with its standard error clustered by `group` (N,)."""
    p = float(hits.mean())
    _, cluster = np.unique(np.asarray(group), return_inverse=True)
    residual = np.bincount(cluster, weights=hits - p)  # (G,)
    error = float(np.sqrt((residual**2).sum()) / len(hits))
    return Rate(percent=100 * p, error=100 * error)


def sparsity(codes: Floats) -> Sparsity:
    """Sparsity of codes (N, C)."""
    fired = codes > 0
    counts = fired.sum(axis=0)
    concepts = codes.shape[1]
    l0 = float(fired.sum(axis=1).mean())
    return Sparsity(
        l0=l0,
        l0_share=100 * l0 / concepts,
        active=100 * float((counts >= 2).mean()),
        dead=100 * float((counts == 0).mean()),
    )
