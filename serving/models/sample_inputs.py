"""Plain inputs that a model must answer before it is served. S image side, T tokens."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bundle.manifest import Manifest
from bundle.onnx_graph import GRAPHS, GraphName
from bundle.store import Bundle
from serving.core.config import BatchConfig
from serving.engines.base import Engine, EngineError
from serving.engines.outputs import rows_of

SAMPLE_TEXT = "a"


@functools.cache
def sample_image() -> bytes:
    """A small PNG file of every grey, which goes the way of a caller's image."""
    file = io.BytesIO()
    Image.radial_gradient("L").resize((64, 64)).save(file, "PNG")
    return file.getvalue()


def sample_input(manifest: Manifest, tokens: NDArray[Any], graph: GraphName) -> NDArray[Any]:
    """A plain input of a graph: the `tokens` (T,) of a text, or a grey image (3, S, S)."""
    if graph == "text":
        return tokens
    size = manifest.preprocessing.size
    return np.zeros((3, size, size), dtype=np.float32)


def run_samples(bundle: Bundle, engine: Engine, batch: BatchConfig) -> None:
    """Runs every graph with one item and with the largest batch, so that no call pays for either.

    Raises EngineError for a row that no model gives.
    """
    tokens = bundle.tokenizer.encode([SAMPLE_TEXT])[0]
    for graph in GRAPHS:
        for size in {1, batch.max_texts if graph == "text" else batch.max_images}:
            inputs = np.repeat(sample_input(bundle.manifest, tokens, graph)[None], size, axis=0)
            output = engine.run(graph, inputs)
            for row in rows_of(output, size, bundle.manifest.architecture, graph):
                if isinstance(row, EngineError):
                    raise row
