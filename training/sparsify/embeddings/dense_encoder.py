"""A dense model as it embeds images and texts. B batch, D width, S image side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bundle.image import ImageLimits
from bundle.onnx_graph import GraphName, OnnxGraph
from bundle.store import Bundle, BundleError, open_bundle

Vectors = NDArray[np.float32]
"""(B, D), rows of unit length."""


class DenseEncoder(Protocol):
    """What sparsify needs of a teacher."""

    name: str
    digest: str
    """Another one for other weights: the cache of its embeddings is kept by it."""
    width: int
    """D."""

    def pixels(self, encoded: bytes) -> NDArray[np.float32]:
        """An encoded image as the tower reads it: (3, S, S). Raises ImageError."""

    def images(self, pixels: NDArray[np.float32]) -> Vectors:
        """Embeds pixels (B, 3, S, S)."""

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Embeds texts. Raises TextError."""


class DenseBundle:
    """The graphs of a dense bundle in ONNX Runtime, and the functions that serving reads with."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        """Raises BundleError for a bundle that is not dense."""
        self.bundle: Bundle = open_bundle(path)
        manifest = self.bundle.manifest
        self.name, self.digest = f"{manifest.name}/{manifest.version}", manifest.digest
        if manifest.kind != "dense":
            raise BundleError(f"{self.name}: is sparse already; sparsify starts at a dense bundle")
        self.width = manifest.architecture.dense_dim
        if manifest.architecture.text_dense_dim != self.width:
            raise BundleError(f"{self.name}: images and texts differ in width")
        self.image_graph = self.graph("image", threads)
        self.text_graph = self.graph("text", threads)

    def graph(self, name: GraphName, threads: int = 0) -> OnnxGraph:
        """One of the bundle's graphs."""
        path = self.bundle.file(f"{name}.onnx")
        return OnnxGraph(path, name, threads=threads, sparse=False)

    def pixels(self, encoded: bytes) -> NDArray[np.float32]:
        """See DenseEncoder."""
        return self.bundle.preprocessor.decode(encoded, ImageLimits()).pixels

    def images(self, pixels: NDArray[np.float32]) -> Vectors:
        """See DenseEncoder."""
        return unit_rows(self.image_graph.run(pixels)["dense"])

    def texts(self, texts: Sequence[str]) -> Vectors:
        """See DenseEncoder."""
        return unit_rows(self.text_graph.run(self.bundle.tokenizer.encode(texts))["dense"])


def unit_rows(vectors: NDArray[Any]) -> Vectors:
    """Rows of unit length, in float32; zero rows stay zero."""
    rows = vectors.astype(np.float32)
    result: Vectors = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return result
