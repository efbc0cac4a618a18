"""Zero-shot, retrieval and sparsity of a model on the splits of a data set."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.data.shards import read_index, read_split
from training.encoder import Encoder, encode_all
from training.metrics import Sparsity, ZeroShot, sparsity, zero_shot


@dataclass(frozen=True, kw_only=True)
class SplitFigures:
    """All figures of one split."""

    split: str
    zero_shot: ZeroShot
    image_sparsity: Sparsity
    text_sparsity: Sparsity


def held_out_splits(folder: Path) -> list[str]:
    """The splits of a data set that are not trained on."""
    return [s for s in read_index(folder)["splits"] if s != "train"]


def evaluate_split(encoder: Encoder, folder: Path, split: str) -> SplitFigures:
    """Encodes a split's pictures and its distinct captions, and compares them."""
    meta = [dict(sample.meta) for sample in read_split(folder, split)]
    names = sorted({m["caption"] for m in meta})
    place = {name: i for i, name in enumerate(names)}
    label = np.array([place[m["caption"]] for m in meta])
    group = [str(m["group"] or m["caption"]) for m in meta]
    image = encode_all(encoder.images, pictures(folder, split), len(meta), f"{split} pictures")
    text = encode_all(encoder.texts, names, len(names), f"{split} captions")
    return SplitFigures(
        split=split,
        zero_shot=zero_shot(image, text, label, group),
        image_sparsity=sparsity(image),
        text_sparsity=sparsity(text),
    )


def pictures(folder: Path, split: str) -> Iterator[Image.Image]:
    """The pictures of a split, in order."""
    for sample in read_split(folder, split):
        with Image.open(io.BytesIO(sample.png), formats=["PNG"]) as image:
            yield image.convert("RGBA")


def flat(figures: list[SplitFigures]) -> dict[str, float]:
    """Figures by dotted name, as a manifest keeps them."""
    result: dict[str, float] = {}
    for f in figures:
        z = f.zero_shot
        rows: dict[str, Any] = {
            "top1": z.top1.percent,
            "top1_error": z.top1.error,
            "top5": z.top5.percent,
            "text_to_image_1": z.text_to_image_1.percent,
            "l0_image": f.image_sparsity.l0,
            "l0_text": f.text_sparsity.l0,
            "active": f.image_sparsity.active,
        }
        result.update({f"{f.split}.{k}": round(float(v), 3) for k, v in rows.items()})
    return result
