"""A bundle's graphs run by onnxruntime itself: what the server's answers are held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from bundle.image import ImageLimits, decode_image
from bundle.store import open_bundle


def direct(bundle: Path, graph: str, inputs: Any) -> dict[str, Any]:
    """The graph's outputs, without the server."""
    session = onnxruntime.InferenceSession(str(open_bundle(bundle).file(f"{graph}.onnx")))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: inputs}), strict=True))


def pixels_of(bundle: Path, *data: bytes) -> Any:
    preprocessor = open_bundle(bundle).preprocessor
    return np.stack([preprocessor(decode_image(entry, ImageLimits())) for entry in data])
