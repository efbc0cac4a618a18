"""Figures of a model on labelled images. N images, L labels, C concepts, G groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share in percent with its standard error."""

    percent: float
    error: float
    """Standard error in points, clustered by group: images of one codepoint stand together."""


@dataclass(frozen=True, kw_only=True)
class ZeroShot:
    """How often an image's own label is the nearest, and how often a label finds its image."""

    images: int
    labels: int
    chance: float
    """Top-1 of a guess, in percent."""
    top1: Share
    top5: Share
    text_to_image_1: Share
    text_to_image_5: Share


@dataclass(frozen=True, kw_only=True)
class Sparsity:
    """Counts of codes above 0 over a named set."""

    l0: float
    """Mean active concepts a row."""
    l0_share: float
    """The same in percent of C."""
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
    """Cosine classification of images (N, C) among label texts (L, C), and the way back.

    `label` (N,) is each image's label; `group` (N,) clusters the standard errors. A text finds
    its image when any image of that label is among the nearest.
    """
    cosine = unit(image) @ unit(text).T
    own = np.take_along_axis(cosine, label[:, None], axis=1)
    rank = (cosine > own).sum(axis=1)
    best = np.full(len(text), np.inf)
    for j in range(len(text)):
        mine = label == j
        if mine.any():
            best[j] = (cosine[:, j] > cosine[mine, j].max()).sum()
    asked = np.isfinite(best)
    first = {int(j): group[int(np.flatnonzero(label == j)[0])] for j in np.flatnonzero(asked)}
    label_group = [first[int(j)] for j in np.flatnonzero(asked)]
    return ZeroShot(
        images=len(image),
        labels=len(text),
        chance=100 / len(text),
        top1=share(rank < 1, group),
        top5=share(rank < 5, group),
        text_to_image_1=share(best[asked] < 1, label_group),
        text_to_image_5=share(best[asked] < 5, label_group),
    )


def share(hits: NDArray[np.bool_], group: list[str]) -> Share:
    """The share of hits with its standard error clustered by `group`."""
    p = float(hits.mean())
    _, place = np.unique(np.asarray(group), return_inverse=True)
    residual = np.bincount(place, weights=hits - p)
    error = float(np.sqrt((residual**2).sum()) / len(hits))
    return Share(percent=100 * p, error=100 * error)


def sparsity(codes: Floats) -> Sparsity:
    """Density figures of rows (N, C)."""
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
