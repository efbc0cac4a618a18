"""The gate of an export: do the graphs say what torch says? B batch, P patches, C concepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bundle.manifest import Parity
from training.graphs import TopK
from training.model import SparseCLIP

MIN_COSINE = 0.9995
MIN_JACCARD = 0.98

NOISE = 1e-4
"""Below this share of its row's largest value, a value that only one side has is a rounding of 0,
not another support."""

_BATCH = 8


class ParityError(ValueError):
    """A graph that disagrees with torch; the message gives the worst row."""


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Inputs on which graphs and torch are compared; also what the TopK widths are taken from."""

    images: Sequence[Image.Image]
    texts: Sequence[str]


class Expected(NamedTuple):
    """What torch says: rows of codes, and the dense vectors."""

    codes: NDArray[np.float32]
    dense: NDArray[np.float32]


class References(NamedTuple):
    """torch in float32 on the golden inputs."""

    image: Expected
    text: Expected
    patches: NDArray[np.float32]
    """(B, P, C)."""


@torch.no_grad()
def references(
    model: SparseCLIP, pixels: NDArray[np.float32], tokens: NDArray[np.int64]
) -> References:
    """Runs the torch model, a few inputs at a time."""
    images = [model.encode_image(x) for x in torch.from_numpy(pixels).split(_BATCH)]
    texts = [model.encode_text(x) for x in torch.from_numpy(tokens).split(_BATCH)]
    patches = [model.encode_patches(x) for x in torch.from_numpy(pixels).split(_BATCH)]
    return References(
        Expected(*(torch.cat(t).numpy() for t in zip(*images, strict=True))),
        Expected(*(torch.cat(t).numpy() for t in zip(*texts, strict=True))),
        torch.cat(patches).numpy(),
    )


def choose_topk(found: References) -> TopK:
    """The widths of the graphs' TopK: half as much again as any golden row needs, at most C.

    Rounded up to a multiple of 32.
    """

    def width(codes: NDArray[np.float32]) -> int:
        most = int((codes > 0).sum(axis=-1).max())
        return min(codes.shape[-1], -(-max(1, most + most // 2) // 32) * 32)

    return TopK(
        image=width(found.image.codes), text=width(found.text.codes), patch=width(found.patches)
    )


class GraphParity(NamedTuple):
    """Agreement of the three graphs."""

    image: Parity
    text: Parity
    patches: Parity


def check_graphs(
    folder: Path,
    pixels: NDArray[np.float32],
    tokens: NDArray[np.int64],
    expected: References,
) -> GraphParity:
    """Compares image.onnx, text.onnx and patches.onnx with torch.

    Raises ParityError for a row with a cosine below 0.9995, a support whose Jaccard index is
    below 0.98, or a count or norm that is not the row's.
    """
    image, text, patches = expected
    rows = _run(folder / "image.onnx", {"pixels": pixels})
    image_parity = _compare("image.onnx", rows, image)
    text_parity = _compare("text.onnx", _run(folder / "text.onnx", {"tokens": tokens}), text)
    both = _run(folder / "patches.onnx", {"pixels": pixels})
    whole = _compare("patches.onnx", both, image)
    flat = {
        name.removeprefix("patch_"): value.reshape(-1, *value.shape[2:])
        for name, value in both.items()
        if name.startswith("patch_")
    }
    each = _compare("patches.onnx", flat, Expected(patches.reshape(-1, patches.shape[-1]), None))
    patch_parity = Parity(
        items=each.items,
        min_cosine=min(whole.min_cosine, each.min_cosine),
        min_support_jaccard=min(whole.min_support_jaccard, each.min_support_jaccard),
        max_abs_error=max(whole.max_abs_error, each.max_abs_error),
        runtime=each.runtime,
    )
    return GraphParity(image_parity, text_parity, patch_parity)


def _run(path: Path, inputs: dict[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    (name, value), *_ = inputs.items()
    parts = [
        session.run(None, {name: value[i : i + _BATCH]}) for i in range(0, len(value), _BATCH)
    ]
    return dict(zip(names, (np.concatenate(c) for c in zip(*parts, strict=True)), strict=True))
