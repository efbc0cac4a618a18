"""Zero-shot accuracy on drawing styles that no recipe trains on, of one model or of several.

The labels of a set are its own captions. The top prediction of an image is its nearest label; of
several that are equally near, each counts with its share. Hubs are labels that are near to most
images, whatever these show: the share of images is measured whose top prediction is one of the 1%
of labels that are predicted most. Beside it is that share where every prediction is right.

    sparseclip data build foreign
    python -m benchmarks.foreign                                 # the demo bundle
    python -m benchmarks.foreign models/mine/1 models/mine/2     # before and after
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.arguments import at_least
from benchmarks.figures import RESULTS
from benchmarks.tables import head, line
from bundle.store import default_bundle, why_no_bundle
from training.evaluation.encoder import (
    BundleEncoder,
    CheckpointEncoder,
    CodeMatrix,
    encode_all,
    open_encoder,
)
from training.evaluation.evaluate import EncodedSplit, encode_splits
from training.evaluation.metrics import sparsity, unit, zero_shot
from training.loading.pair_data import PairData

HUBS = 0.01
"""The share of labels that count as hubs."""

Measured = dict[str, dict[str, Any]]
"""The figures of each set."""


def main() -> None:
    """Measures, prints a table, and adds the result to benchmarks/results/foreign.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("models", nargs="*", type=Path, help="bundles or runs; two: before, after")
    parser.add_argument("--data", type=Path, default=Path("data/build/foreign"))
    parser.add_argument("--threads", type=at_least(0), default=0, help="0 for all cores")
    parser.add_argument("--out", type=Path, default=RESULTS / "foreign.json")
    given = parser.parse_args()
    results: dict[str, Measured] = json.loads(given.out.read_text()) if given.out.exists() else {}
    encoders = [opened(path, given.threads) for path in given.models or [default_bundle()]]
    names = [encoder.name for encoder in encoders]
    if len(set(names)) < len(names):
        parser.error(f"models: two are named {max(names, key=names.count)}")
    for encoder in encoders:
        results[encoder.name] = measure(encoder, PairData(given.data))
        given.out.write_text(json.dumps(results, indent=1) + "\n")
    print(table({name: results[name] for name in names}))


def opened(path: Path, threads: int) -> BundleEncoder | CheckpointEncoder:
    """A bundle, on so many threads, or a run."""
    return BundleEncoder(path, threads) if why_no_bundle(path) is None else open_encoder(path)


def measure(encoder: BundleEncoder | CheckpointEncoder, data: PairData) -> Measured:
    """The figures of every set of the data."""
    # No model was trained on any split of these data, not even on one of the name `train`.
    splits = encode_splits(encoder, data, data.splits, trained="")
    return {split.name: figures(encoder, split) for split in splits}


def figures(encoder: BundleEncoder | CheckpointEncoder, split: EncodedSplit) -> dict[str, Any]:
    """The figures of a set: rates in percent, with standard errors clustered by codepoint, or by
    caption where there is none."""
    metas = [sample.meta for sample in split.samples]
    names = sorted({meta["caption"] for meta in metas})
    label = np.array([names.index(meta["caption"]) for meta in metas])
    group = [str(meta["group"] or meta["caption"]) for meta in metas]
    text = encode_all(encoder.texts, names, len(names), f"{split.name} captions")
    found = zero_shot(split.codes, text, label, group)
    predicted = prediction_shares(split.codes, text)
    most = np.argsort(-predicted, kind="stable")[:5]
    return {
        "images": found.images,
        "labels": found.labels,
        "chance": round(found.chance, 3),
        **{
            f"top{k}": {"percent": round(rate.percent, 2), "error": round(rate.error, 2)}
            for k, rate in ((1, found.top1), (5, found.top5))
        },
        "l0_image": round(sparsity(split.codes).l0, 1),
        "l0_text": round(sparsity(text).l0, 1),
        "empty_images": int((split.codes <= 0).all(axis=1).sum()),
        "hub_share": round(100 * hub_share(predicted), 2),
        "hub_share_if_right": round(100 * hub_share(np.bincount(label) / len(label)), 2),
        "most_predicted": {names[i]: round(100 * float(predicted[i]), 2) for i in most},
    }


def prediction_shares(image: CodeMatrix, text: CodeMatrix) -> NDArray[np.float64]:
    """The share (L,) of the images (N, C) whose top prediction each of the labels (L, C) is."""
    cosine = unit(image) @ unit(text).T
    nearest = (cosine == cosine.max(axis=1, keepdims=True)).astype(np.float64)
    shares: NDArray[np.float64] = (nearest / nearest.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares


def hub_share(shares: NDArray[np.float64]) -> float:
    """The sum of the largest HUBS of the shares (L,), of one share at least."""
    return float(np.sort(shares)[-math.ceil(HUBS * len(shares)) :].sum())


def table(results: dict[str, Measured]) -> str:
    """A row for each set and model, as Markdown; with two models also what changed."""
    models = list(results)
    columns = ["set", "images", "labels", "chance", "model", "top-1", "top-5", "L0 image"]
    lines = head([*columns, "predictions that are hubs (if all were right)"])
    for name, first in results[models[0]].items():
        for model in models:
            if name in results[model]:
                lines.append(line(_cells(name, model, results[model][name])))
        if len(models) == 2 and name in results[models[1]]:
            lines.append(line(_change(name, first, results[models[1]][name])))
    return "\n".join(lines)


def _cells(name: str, model: str, values: dict[str, Any]) -> Sequence[str]:
    rates = [f"{values[k]['percent']:.1f} ± {values[k]['error']:.1f}%" for k in ("top1", "top5")]
    return [
        name,
        f"{values['images']:,}",
        f"{values['labels']:,}",
        f"{values['chance']:.2f}%",
        model,
        *rates,
        f"{values['l0_image']:.0f}",
        f"{values['hub_share']:.1f}% ({values['hub_share_if_right']:.1f}%)",
    ]


def _change(name: str, before: dict[str, Any], after: dict[str, Any]) -> Sequence[str]:
    rates = [f"{after[k]['percent'] - before[k]['percent']:+.1f}" for k in ("top1", "top5")]
    l0, hubs = (after[k] - before[k] for k in ("l0_image", "hub_share"))
    return [name, "", "", "", "change", *rates, f"{l0:+.0f}", f"{hubs:+.1f}"]


if __name__ == "__main__":
    main()
