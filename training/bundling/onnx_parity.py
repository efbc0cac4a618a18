"""The parity gate of an export: ONNX graphs against torch. B batch, P patches, C concepts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from bundle.codes import ACTIVE_ABOVE
from bundle.manifest import Parity
from bundle.onnx_graph import GRAPHS, GraphName, OnnxGraph, import_onnxruntime
from training.bundling.onnx_graphs import TopK
from training.model.sparse_clip import SparseCLIP

MIN_COSINE = 0.9995
MIN_JACCARD = 0.98

ROUNDING_NOISE = 1e-4
"""A value below this fraction of its row's largest one, on one side only, is a rounding of 0 and
does not count as another support."""

_BATCH_SIZE = 8

Array = NDArray[Any]


class ParityError(ValueError):
    """A graph that disagrees with torch; the message names the graph and the figure."""


class GraphParity(NamedTuple):
    """How well each of the three graphs agrees with torch."""

    image: Parity
    text: Parity
    patches: Parity


@torch.no_grad()
def choose_topk(model: SparseCLIP, pixels: Array, tokens: Array) -> TopK:
    """The widths of the graphs' TopK: 1.5 times what the densest golden row needs, at most C.

    Widths are rounded up to a multiple of 32. Both leave room for rows denser than the golden ones.
    """
    most_active = {"image": 0, "text": 0, "patch": 0}
    for x in _batches(pixels):
        images = torch.from_numpy(x)
        most_active["image"] = max(
            most_active["image"], _max_active(model.encode_image(images).codes)
        )
        most_active["patch"] = max(most_active["patch"], _max_active(model.encode_patches(images)))
    for x in _batches(tokens):
        codes = model.encode_text(torch.from_numpy(x)).codes
        most_active["text"] = max(most_active["text"], _max_active(codes))
    concepts = model.config.concepts
    widths = {k: -(-max(1, n + n // 2) // 32) * 32 for k, n in most_active.items()}
    return TopK(**{kind: min(concepts, width) for kind, width in widths.items()})


@torch.no_grad()
def check_graphs(model: SparseCLIP, folder: Path, pixels: Array, tokens: Array) -> GraphParity:
    """Compares image.onnx, text.onnx and patches.onnx with torch in float32, row by row.

    Raises ParityError for a cosine below MIN_COSINE, a support whose Jaccard index is below
    MIN_JACCARD, or a wrong norm or count of active concepts.
    """
    image, text, patches = ParityTally("image"), ParityTally("text"), ParityTally("patches")
    graphs = {name: OnnxGraph(folder / f"{name}.onnx", name) for name in GRAPHS}
    for x in _batches(pixels):
        codes, dense = (t.numpy() for t in model.encode_image(torch.from_numpy(x)))
        for tally in (image, patches):
            outputs = graphs[tally.graph].run(x)
            tally.add(codes, outputs["indices"], outputs["values"], outputs["active"])
            tally.add_dense(dense, outputs["dense"])
            tally.add_norm(codes, outputs["norm"])
        # The outputs are those of patches.onnx, the second of the two: its B * P patch rows.
        patch_codes = model.encode_patches(torch.from_numpy(x)).flatten(0, 1).numpy()
        indices, values, active = (
            outputs[f"patch_{name}"].reshape(len(patch_codes), -1)
            for name in ("indices", "values", "active")
        )
        patches.add(patch_codes, indices, values, active[:, 0])
    for x in _batches(tokens):
        codes, dense = (t.numpy() for t in model.encode_text(torch.from_numpy(x)))
        outputs = graphs["text"].run(x)
        text.add(codes, outputs["indices"], outputs["values"], outputs["active"])
        text.add_dense(dense, outputs["dense"])
        text.add_norm(codes, outputs["norm"])
    return GraphParity(image.result(), text.result(), patches.result())


class ParityTally:
    """The worst figures of one graph over all rows."""

    def __init__(self, graph: GraphName) -> None:
        self.graph, self._items = graph, 0
        self._cosine, self._jaccard, self._error = 1.0, 1.0, 0.0

    def add(self, expected: Array, indices: Array, values: Array, active: Array) -> None:
        """Compares torch's codes (B, C) with those of a TopK (B, K). Raises ParityError for a wrong
        count of active concepts."""
        actual = np.zeros_like(expected)
        np.put_along_axis(actual, indices, values, axis=1)
        self._items += len(expected)
        self._error = max(self._error, float(np.abs(actual - expected).max()))
        self._cosine = min(self._cosine, float(row_cosines(actual, expected).min()))
        noise = ROUNDING_NOISE * np.maximum(actual, expected).max(axis=1, keepdims=True)
        union = (actual > noise) | (expected > noise)
        both = union & (actual > 0) & (expected > 0)
        jaccard = (both.sum(axis=1) + 1e-9) / (union.sum(axis=1) + 1e-9)
        self._jaccard = min(self._jaccard, float(jaccard.min()))
        counts = (expected > ACTIVE_ABOVE).sum(axis=1)
        if (np.abs(active - counts) > np.maximum(2, 0.02 * counts)).any():
            raise ParityError(f"{self.graph}.onnx: active differs from the count in torch")

    def add_dense(self, expected: Array, actual: Array) -> None:
        """Compares dense vectors (B, D)."""
        self._cosine = min(self._cosine, float(row_cosines(actual, expected).min()))

    def add_norm(self, codes: Array, norm: Array) -> None:
        """Compares the norms (B,) of codes (B, C). Raises ParityError."""
        if not np.allclose(norm, np.linalg.norm(codes, axis=1), rtol=1e-3, atol=1e-6):
            raise ParityError(f"{self.graph}.onnx: norm differs from torch")

    def result(self) -> Parity:
        """The figures of a graph that passes. Raises ParityError for one that does not."""
        onnxruntime = import_onnxruntime()
        if not (self._cosine >= MIN_COSINE and self._jaccard >= MIN_JACCARD):  # NaN fails, too
            raise ParityError(
                f"{self.graph}.onnx: differs from torch: cosine {self._cosine:.6f} (at least"
                f" {MIN_COSINE}), support {self._jaccard:.4f} (at least {MIN_JACCARD})"
            )
        return Parity(
            items=self._items,
            min_cosine=self._cosine,
            min_support_jaccard=self._jaccard,
            max_abs_error=self._error,
            runtime=f"onnxruntime {onnxruntime.__version__} CPU",
        )


def row_cosines(a: Array, b: Array) -> Array:
    """Cosines (B,) of rows, in float64: 1 when both rows are zero, 0 when one is."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    sizes = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    empty = (sizes[0] == 0) & (sizes[1] == 0)
    product = np.maximum(sizes[0] * sizes[1], np.finfo(np.float64).tiny)
    return np.where(empty, 1.0, np.minimum(1.0, (a * b).sum(axis=1) / product))


def _batches(items: Array) -> Iterator[Array]:
    for start in range(0, len(items), _BATCH_SIZE):
        yield items[start : start + _BATCH_SIZE]


def _max_active(codes: torch.Tensor) -> int:
    return int((codes > ACTIVE_ABOVE).sum(dim=-1).max())
