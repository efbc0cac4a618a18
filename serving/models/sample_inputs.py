"""Plain inputs that a model must answer before it is served. S image side, T tokens."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bundle.store import Bundle
from serving.core.config import BatchConfig
from serving.engines.base import EngineError, OpenedEngine
from serving.engines.outputs import rows_of

SAMPLE_TEXT = "a"


@functools.cache
def sample_image() -> bytes:
    """A small PNG file of every grey, which goes the way of a caller's image."""
    file = io.BytesIO()
    Image.radial_gradient("L").resize((64, 64)).save(file, "PNG")
    return file.getvalue()


def run_samples(bundle: Bundle, engine: OpenedEngine, batch: BatchConfig) -> None:
    """Runs every graph that is served, with one item and with the largest batch, so that no call
    pays for either.

    Raises EngineError for a row that no model gives.
    """
    side = bundle.manifest.preprocessing.size
    image: NDArray[Any] = np.zeros((1, 3, side, side), dtype=np.float32)
    text: NDArray[Any] = bundle.tokenizer.encode([SAMPLE_TEXT])  # (1, T)
    for graph in bundle.graphs:
        one, most = (text, batch.max_texts) if graph == "text" else (image, batch.max_images)
        for size in {1, most}:
            output = engine.run(graph, np.repeat(one, size, axis=0))
            for row in rows_of(output, size, bundle.manifest.architecture, graph):
                if isinstance(row, EngineError):
                    raise row
