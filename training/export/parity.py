"""The gate of an export: do the graphs say what torch says? B batch, P patches, C concepts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from bundle.manifest import Parity
from bundle.onnx_graph import GRAPHS, GraphName, OnnxGraph, import_onnxruntime
from training.export.onnx_graphs import TopK
from training.model.sparse_clip import SparseCLIP

MIN_COSINE = 0.9995
MIN_JACCARD = 0.98

NOISE = 1e-4
"""Below this share of its row's largest value, a value that only one side has is a rounding of 0,
not another support."""

_BATCH = 8

Array = NDArray[Any]


class ParityError(ValueError):
    """A graph that disagrees with torch; the message names the graph and the figure."""


class GraphParity(NamedTuple):
    """Agreement of the three graphs."""

    image: Parity
    text: Parity
    patches: Parity


@torch.no_grad()
def choose_topk(model: SparseCLIP, pixels: Array, tokens: Array) -> TopK:
    """The widths of the graphs' TopK: half as much again as any golden row needs, at most C.

    Rounded up to a multiple of 32, for rows that are denser than the golden ones.
    """
    most = {"image": 0, "text": 0, "patch": 0}
    for x in _batches(pixels):
        most["image"] = max(most["image"], _active(model.encode_image(torch.from_numpy(x)).codes))
        most["patch"] = max(most["patch"], _active(model.encode_patches(torch.from_numpy(x))))
    for x in _batches(tokens):
        most["text"] = max(most["text"], _active(model.encode_text(torch.from_numpy(x)).codes))
    concepts = model.config.concepts
    return TopK(**{k: min(concepts, -(-max(1, n + n // 2) // 32) * 32) for k, n in most.items()})


@torch.no_grad()
def check_graphs(model: SparseCLIP, folder: Path, pixels: Array, tokens: Array) -> GraphParity:
    """Compares image.onnx, text.onnx and patches.onnx with torch in float32, row by row.

    Raises ParityError for a cosine below 0.9995, a support whose Jaccard index is below 0.98, or a
    count or a norm that does not fit.
    """
    image, text, patches = _Tally("image"), _Tally("text"), _Tally("patches")
    graphs = {name: OnnxGraph(folder / f"{name}.onnx", name) for name in GRAPHS}
    for x in _batches(pixels):
        codes, dense = (t.numpy() for t in model.encode_image(torch.from_numpy(x)))
        for tally in (image, patches):
            found = graphs[tally.graph].run(x)
            tally.add(codes, found["indices"], found["values"], found["active"])
            tally.add_dense(dense, found["dense"])
            tally.add_norm(codes, found["norm"])
        each = model.encode_patches(torch.from_numpy(x)).flatten(0, 1).numpy()
        rows = {k: v.reshape(len(each), -1) for k, v in found.items() if k.startswith("patch_")}
        patches.add(each, rows["patch_indices"], rows["patch_values"], rows["patch_active"][:, 0])
    for x in _batches(tokens):
        codes, dense = (t.numpy() for t in model.encode_text(torch.from_numpy(x)))
        found = graphs["text"].run(x)
        text.add(codes, found["indices"], found["values"], found["active"])
        text.add_dense(dense, found["dense"])
        text.add_norm(codes, found["norm"])
    return GraphParity(image.result(), text.result(), patches.result())


class _Tally:
    """The worst of one graph's rows."""

    def __init__(self, graph: GraphName) -> None:
        self.graph, self._items = graph, 0
        self._cosine, self._jaccard, self._error = 1.0, 1.0, 0.0

    def add(self, expected: Array, indices: Array, values: Array, active: Array) -> None:
        """Rows of codes (B, C) beside a TopK's (B, K)."""
        found = np.zeros_like(expected)
        np.put_along_axis(found, indices, values, axis=1)
        self._items += len(expected)
        self._error = max(self._error, float(np.abs(found - expected).max()))
        self._cosine = min(self._cosine, float(_cosine(found, expected).min()))
        noise = NOISE * np.maximum(found, expected).max(axis=1, keepdims=True)
        union = (found > noise) | (expected > noise)
        both = union & (found > 0) & (expected > 0)
        jaccard = (both.sum(axis=1) + 1e-9) / (union.sum(axis=1) + 1e-9)
        self._jaccard = min(self._jaccard, float(jaccard.min()))
        counts = (expected > 0).sum(axis=1)
        if (np.abs(active - counts) > np.maximum(2, 0.02 * counts)).any():
            raise ParityError(f"{self.graph}.onnx: active differs from the count in torch")

    def add_dense(self, expected: Array, found: Array) -> None:
        """Dense vectors (B, D)."""
        self._cosine = min(self._cosine, float(_cosine(found, expected).min()))

    def add_norm(self, codes: Array, norm: Array) -> None:
        """Norms (B,) of rows of codes (B, C)."""
        if not np.allclose(norm, np.linalg.norm(codes, axis=1), rtol=1e-3, atol=1e-6):
            raise ParityError(f"{self.graph}.onnx: norm differs from torch")

    def result(self) -> Parity:
        """The figures, if they pass."""
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


def _cosine(a: Array, b: Array) -> Array:
    """Cosines of rows in float64; 1 for two rows of zeros, 0 for one."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    sizes = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    empty = (sizes[0] == 0) & (sizes[1] == 0)
    product = np.maximum(sizes[0] * sizes[1], np.finfo(np.float64).tiny)
    return np.where(empty, 1.0, np.minimum(1.0, (a * b).sum(axis=1) / product))


def _batches(items: Array) -> Iterator[Array]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]


def _active(codes: torch.Tensor) -> int:
    return int((codes > 0).sum(dim=-1).max())
