"""How far the code of an image moves when it is sent as a JPEG.

Each image of a split is sent as the PNG that it is, and as a JPEG: laid on its ground, as serving
lays it, and written by Pillow with 4:2:0 subsampling. Compared are the two codes: their cosine, and
the share of the PNG's ten strongest concepts that are among the ten strongest of the JPEG. By
chance: the cosine of the PNGs of two different images. Drawings are as large as the data have them;
larger ones lose less. Tune by val_style; test_style is for reports.

    python -m benchmarks.jpeg
    python -m benchmarks.jpeg --bundle models/mine --split test_style
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.arguments import at_least
from benchmarks.figures import RESULTS, add_result
from bundle.ground import lay_on_ground
from bundle.store import default_bundle
from training.evaluation.encoder import BundleEncoder, CodeMatrix, encode_all
from training.evaluation.metrics import unit
from training.loading.pair_data import PairData
from training.loading.samples import LabelledImage, read_samples

QUALITIES = (95, 85, 75, 50)
STRONGEST = 10
GOAL_QUALITY, GOAL = 85, 0.98
"""The mean cosine that is aimed at, at this quality."""


def main() -> None:
    """Measures, prints, and adds the result to benchmarks/results/jpeg.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, help="default: the demo bundle")
    parser.add_argument("--data", type=Path, default=Path("data/build/demo-research"))
    parser.add_argument("--split", default="val_style")
    parser.add_argument("--threads", type=at_least(0), default=0, help="0 for all cores")
    parser.add_argument("--out", type=Path, default=RESULTS / "jpeg.json")
    given = parser.parse_args()
    encoder = BundleEncoder(given.bundle or default_bundle(), given.threads)
    samples = read_samples(PairData(given.data), [given.split])[given.split]
    result = measure(encoder, samples)
    print(json.dumps(result, indent=1))
    add_result(given.out, f"{encoder.name}, {given.split}", result)


def measure(encoder: BundleEncoder, samples: Sequence[LabelledImage]) -> dict[str, Any]:
    """The figures of each quality, and whether the goal is met."""
    background = encoder.preprocess.preprocessing.background
    images = [sample.image() for sample in samples]
    png = encode_all(encoder.images, images, len(images), "PNG")
    figures = {}
    for quality in QUALITIES:
        sent = (as_jpeg(image, background, quality) for image in images)
        figures[str(quality)] = compare(
            png, encode_all(encoder.images, sent, len(images), f"JPEG {quality}")
        )
    others = np.roll(np.random.default_rng(0).permutation(len(images)), 1)
    by_chance = cosines(png[np.roll(others, -1)], png[others])
    return {
        "images": len(images),
        "sides": sorted({max(image.size) for image in images}),
        "qualities": figures,
        "cosine_by_chance": round(float(by_chance.mean()), 4),
        "goal": f"mean cosine of {GOAL} at quality {GOAL_QUALITY}",
        "met": figures[str(GOAL_QUALITY)]["cosine_mean"] >= GOAL,
    }


def as_jpeg(image: Image.Image, background: tuple[int, int, int], quality: int) -> Image.Image:
    """The image as a JPEG has it."""
    laid, _ = lay_on_ground(image, background)
    file = io.BytesIO()
    laid.convert("RGB").save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return Image.open(file)


def compare(png: CodeMatrix, jpeg: CodeMatrix) -> dict[str, float]:
    """The figures of one quality, of codes (N, C) of the same images."""
    cosine = cosines(png, jpeg)
    return {
        "cosine_mean": round(float(cosine.mean()), 4),
        "cosine_p5": round(float(np.percentile(cosine, 5)), 4),
        "strongest_that_stay": round(100 * float(np.mean(list(map(staying, png, jpeg)))), 2),
    }


def cosines(a: CodeMatrix, b: CodeMatrix) -> CodeMatrix:
    """Cosines (N,) of rows; 0 where a row is empty."""
    product: CodeMatrix = (unit(a) * unit(b)).sum(axis=1)
    return product


def staying(png: CodeMatrix, jpeg: CodeMatrix) -> float:
    """The share of the strongest concepts of one code (C,) that are among those of another. A code
    of fewer than STRONGEST has as many as it has; one of none keeps all only if the other is empty.
    """
    before, after = strongest(png), strongest(jpeg)
    return len(before & after) / len(before) if before else float(not after)


def strongest(code: CodeMatrix) -> set[int]:
    """The strongest active concepts of a code (C,)."""
    order = np.argsort(-code, kind="stable")[:STRONGEST]
    return {int(i) for i in order if code[i] > 0}


if __name__ == "__main__":
    main()
