"""The parity gate: how far an engine's outputs are from those of a bundle's own graphs in fp32.

N items, K active concepts, Kp slots of a patch, P patches, C concepts, D CLIP width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.engines import EnginePrecision
from serving.engines.base import EngineOutput

TOP = 16
"""How many of the strongest concepts are compared as a set: what people look at."""

WORST_SHARE = 0.05
"""`cosine` is what all but this share of the items reach: a single odd item refuses no engine."""

TIE = 0.002
"""Labels whose cosines with an image differ by less than this are equally right."""


@dataclass(frozen=True, kw_only=True)
class EngineParity:
    """How near the outputs of one graph are to the reference's; 1 is equal."""

    items: int
    """How many inputs were compared."""
    cosine: float
    """The cosine of two codes, or dense vectors, that 95% of the items reach."""
    cosine_min: float
    """The lowest cosine of an item."""
    jaccard: float | None = None
    """Mean overlap of the sets of active concepts, intersection over union; None without concepts.
    """
    jaccard_min: float | None = None
    """The lowest overlap of an item."""
    top16: float | None = None
    """Mean share of the 16 strongest concepts that are the same."""
    dense_cosine: float | None = None
    """The cosine of two dense vectors of a sparse model that 95% of the items reach."""
    patch_jaccard: float | None = None
    """Mean overlap of the active concepts of a patch, by the graph `patches` alone."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What a precision must reach. `dense_cosine` and `patch_jaccard` must reach `cosine` and
    `jaccard`."""

    cosine: float
    jaccard: float
    top16: float
    agreement: float
    """Share of the images for which the nearest text is the same."""


THRESHOLDS: dict[EnginePrecision, Thresholds] = {
    "fp32": Thresholds(cosine=0.9999, jaccard=0.99, top16=0.99, agreement=0.99),
    "bf16": Thresholds(cosine=0.999, jaccard=0.97, top16=0.97, agreement=0.97),
    "fp16": Thresholds(cosine=0.999, jaccard=0.97, top16=0.97, agreement=0.97),
    "int8": Thresholds(cosine=0.99, jaccard=0.9, top16=0.93, agreement=0.93),
}


def shortfalls(precision: EnginePrecision, parity: EngineParity) -> list[str]:
    """The figures of a graph that are below the thresholds of a precision, each as a phrase."""
    wanted = THRESHOLDS[precision]
    pairs = {
        "cosine": (parity.cosine, wanted.cosine),
        "jaccard": (parity.jaccard, wanted.jaccard),
        "top16": (parity.top16, wanted.top16),
        "dense cosine": (parity.dense_cosine, wanted.cosine),
        "patch jaccard": (parity.patch_jaccard, wanted.jaccard),
    }
    return [
        f"{name} {value:.4f} is below {least:g}"
        for name, (value, least) in pairs.items()
        # Not `value < least`: a value that is no number passes nothing.
        if value is not None and not value >= least
    ]


def compare(reference: EngineOutput, output: EngineOutput, concepts: int) -> EngineParity:
    """The parity of one graph's outputs for the same N inputs, of a model of C concepts."""
    dense = _cosines(reference.dense, output.dense)
    if not concepts:
        return EngineParity(
            items=len(dense), cosine=_worst(dense), cosine_min=round(float(dense.min()), 6)
        )
    cosines, overlaps, tops = (
        np.concatenate(parts)
        for parts in zip(
            *_compare_codes(
                (reference.indices, reference.values), (output.indices, output.values), concepts
            ),
            strict=True,
        )
    )
    patch_overlaps = None
    if reference.patches is not None and output.patches is not None:
        slots = reference.patches.indices.shape[-1]
        patch_overlaps = np.concatenate(
            [
                overlap
                for _, overlap, _ in _compare_codes(
                    (
                        reference.patches.indices.reshape(-1, slots),
                        reference.patches.values.reshape(-1, slots),
                    ),
                    (
                        output.patches.indices.reshape(-1, slots),
                        output.patches.values.reshape(-1, slots),
                    ),
                    concepts,
                )
            ]
        )
    return EngineParity(
        items=len(dense),
        cosine=_worst(cosines),
        cosine_min=round(float(cosines.min()), 6),
        jaccard=round(float(overlaps.mean()), 4),
        jaccard_min=round(float(overlaps.min()), 4),
        top16=round(float(tops.mean()), 4),
        dense_cosine=_worst(dense),
        patch_jaccard=None if patch_overlaps is None else round(float(patch_overlaps.mean()), 4),
    )


def agreement(
    reference: tuple[EngineOutput, EngineOutput],
    output: tuple[EngineOutput, EngineOutput],
    concepts: int,
) -> float:
    """The share of images for which an engine's nearest text is one of the reference's nearest.

    Each pair holds the outputs of the graphs `image` and `text`.
    """
    scores = _scores(*reference, concepts)
    chosen = _scores(*output, concepts).argmax(axis=1)
    best = scores.max(axis=1)
    picked = scores[np.arange(len(scores)), chosen]
    return round(float((picked >= best - TIE).mean()), 4)


def _scores(image: EngineOutput, text: EngineOutput, concepts: int) -> NDArray[np.float32]:
    """Cosines of N images and M texts, (N, M)."""
    vectors = [
        _unit(_codes(output.indices, output.values, concepts) if concepts else output.dense)
        for output in (image, text)
    ]
    scores: NDArray[np.float32] = vectors[0] @ vectors[1].T
    return scores


_ROWS = 64
"""Rows that are compared at the same time: each is C numbers."""

_Codes = tuple[NDArray[np.int64], NDArray[np.float32]]


def _compare_codes(
    reference: _Codes, output: _Codes, concepts: int
) -> Iterator[tuple[NDArray[np.float32], ...]]:
    """Cosine, Jaccard and overlap of the strongest of each row, (rows,) each, part by part."""
    for start in range(0, len(reference[0]), _ROWS):
        part = slice(start, start + _ROWS)
        left = _codes(reference[0][part], reference[1][part], concepts)
        right = _codes(output[0][part], output[1][part], concepts)
        union = ((left > 0) | (right > 0)).sum(axis=1)
        both = ((left > 0) & (right > 0)).sum(axis=1)
        overlap = np.where(union == 0, 1.0, both / np.maximum(union, 1)).astype(np.float32)
        yield _cosines(left, right), overlap, _same_strongest(left, right)


def _same_strongest(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """The share of the strongest TOP concepts of `left` that are among those of `right`, (N,)."""
    shares = np.ones(len(left), dtype=np.float32)
    for row, (a, b) in enumerate(zip(left, right, strict=True)):
        count = min(TOP, int((a > 0).sum()))
        if count:
            strongest = [set(np.argsort(-code, kind="stable")[:count].tolist()) for code in (a, b)]
            shares[row] = len(strongest[0] & strongest[1]) / count
    return shares


def _codes(
    indices: NDArray[np.int64], values: NDArray[np.float32], concepts: int
) -> NDArray[np.float32]:
    """(N, K) slots as codes (N, C). A slot whose id is none is unused."""
    codes = np.zeros((len(indices), concepts), dtype=np.float32)
    inside = (indices >= 0) & (indices < concepts)
    rows, slots = np.nonzero(inside & (values > 0))
    codes[rows, indices[rows, slots]] = values[rows, slots]
    return codes


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32)


def _cosines(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cosine of each pair of rows; 1 for two of length 0, which are equal."""
    cosines = (_unit(left) * _unit(right)).sum(axis=1)
    empty = ~left.any(axis=1) & ~right.any(axis=1)
    result: NDArray[np.float32] = np.where(empty, 1.0, cosines).astype(np.float32)
    return result


def _worst(cosines: NDArray[np.float32]) -> float:
    return round(float(np.quantile(cosines, WORST_SHARE, method="lower")), 6)
