"""Engines alone: images per second by engine, precision and batch, and the share of the CPU's peak.

Each block opens one engine after the other, warms it up, and runs decoded images through it. A
plain matrix product is measured in each block, too. The share is the operations of the image tower
by formula, times images per second, over the product's rate in the same precision.

    python -m benchmarks.engines                                    # ViT-B/32: about five minutes
    python -m benchmarks.engines --model vit_l14 --batches 1 8 --engines onnxruntime:fp32
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.arguments import above, at_least
from benchmarks.clip_models import CONCEPTS, GEOMETRIES, WORK, prepare
from benchmarks.engine_alone import EngineAlone
from benchmarks.figures import RESULTS, add_result, described, summary
from benchmarks.hf_models import HFGeometry
from benchmarks.peak import gigaflops
from benchmarks.sample_collections import DISTINCT, IMAGES, image
from bundle.plugins import PluginError
from bundle.schema import SchemaError, from_dict
from serving.engines import AUTO, ENGINES, SLOW_BUILDS
from serving.engines.base import EngineConfig, EngineError, EngineUnavailableError

REFERENCE = "onnxruntime:fp32"
Rates = dict[str, dict[int, list[float]]]
"""By engine, then by batch: one rate for each block."""


def main() -> None:
    """Measures, prints, and adds the result to benchmarks/results/engines.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", choices=GEOMETRIES, default="vit_b32")
    parser.add_argument("--work", type=Path, default=WORK, help="folder that keeps the models")
    parser.add_argument(
        "--engines",
        nargs="+",
        metavar="ENGINE:PRECISION",
        help="what to measure; default: what this machine can run, and builds in seconds",
    )
    parser.add_argument(
        "--batches", type=at_least(1, up_to=DISTINCT), nargs="+", default=[1, 8, 32]
    )
    parser.add_argument("--blocks", type=at_least(1), default=3, help="alternations of all engines")
    parser.add_argument("--seconds", type=above(0), default=3.0, help="for each batch size")
    parser.add_argument("--out", type=Path, default=RESULTS / "engines.json")
    given = parser.parse_args()
    began = time.perf_counter()
    given.engines = given.engines or available()
    for name in given.engines:
        try:
            config_of(name)
        except SchemaError as error:
            parser.error(f"argument --engines: {name}: {error}")
    bundle = prepare(given.model, given.work).sparse
    result = measure(bundle, given)
    result["gigaflop_per_image"] = round(flops(GEOMETRIES[given.model]) / 1e9, 2)
    result["share_of_peak"] = shares(result, flops(GEOMETRIES[given.model]))
    result |= {
        "random_weights": True,
        "concepts": CONCEPTS,
        "blocks": given.blocks,
        "seconds": round(time.perf_counter() - began),
        "machine": described(),
    }
    print(json.dumps({key: value for key, value in result.items() if key != "raw"}, indent=1))
    add_result(given.out, given.model, result)


def measure(bundle: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Alternates the engines. One that cannot be opened is named with the reason."""
    data = [image(*IMAGES["jpeg512"], seed) for seed in range(DISTINCT)]
    rates: Rates = {}
    descriptions: dict[str, str] = {}
    refused: dict[str, str] = {}
    peaks: dict[str, list[float]] = {}
    precisions = {config_of(name).precision for name in given.engines}
    for block in range(given.blocks):
        for precision, libraries in gigaflops(1.0, precisions).items():
            peaks.setdefault(precision, []).append(max(libraries.values()))
        for name in given.engines:
            if name in refused:
                continue
            try:
                alone = EngineAlone(bundle, data, config_of(name))
            except EngineError as error:
                refused[name] = str(error)
                continue
            descriptions[name] = alone.description
            for batch in given.batches:
                alone.warm(batch)
                rate = alone.rate(batch, given.seconds)
                rates.setdefault(name, {}).setdefault(batch, []).append(rate)
            alone.close()
        print(f"block {block + 1} of {given.blocks}", file=sys.stderr, flush=True)
    return {
        "images_per_second": {
            name: {batch: summary(values) for batch, values in batches.items()}
            for name, batches in rates.items()
        },
        f"over {REFERENCE}": over(rates, REFERENCE),
        "peak_gigaflops": {name: summary(values) for name, values in peaks.items()},
        "engines": descriptions,
        "refused": refused,
        "raw": {"images_per_second": rates, "peak_gigaflops": peaks},
    }


def available() -> list[str]:
    """Every engine whose library is here, in every precision that this CPU has instructions for.
    Without those that take minutes to build: they are named by --engines."""
    found: list[str] = []
    for name in ENGINES.names:
        with contextlib.suppress(PluginError, EngineUnavailableError):
            engine = ENGINES.load(name)
            if name not in SLOW_BUILDS:
                found += [f"{name}:{precision}" for precision in engine.precisions("cpu")]
    return found


def config_of(name: str) -> EngineConfig:
    """The settings that `ENGINE:PRECISION` stands for."""
    engine, _, precision = name.partition(":")
    return from_dict(EngineConfig, {"name": engine, "precision": precision or AUTO}, "engine")


def over(rates: Rates, reference: str) -> dict[str, dict[int, Any]]:
    """Every rate divided by the reference's of the same block and batch size."""
    return {
        name: {
            batch: summary([a / b for a, b in zip(values, rates[reference][batch], strict=True)])
            for batch, values in batches.items()
        }
        for name, batches in rates.items()
        if name != reference and reference in rates
    }


def flops(geometry: HFGeometry, concepts: int = CONCEPTS) -> float:
    """Multiplications and additions for one image: patches, layers, projection and sparse head.

    A layer of T tokens and width W has 12 W^2 multiplications a token (4 for attention's
    projections, 8 for the MLP), and 2 T^2 W for its scores and their sum.
    """
    patches = (geometry.image_size // geometry.patch) ** 2
    tokens, width = patches + 1, geometry.width
    layer = 12 * tokens * width**2 + 2 * tokens**2 * width
    embedding = patches * 3 * geometry.patch**2 * width
    head = width * geometry.dim + geometry.dim * concepts
    return 2.0 * (embedding + geometry.layers * layer + head)


def shares(result: dict[str, Any], per_image: float) -> dict[str, dict[int, float]]:
    """Of each engine, the median over blocks of its operations over those of a plain product."""
    raw, found = result["raw"], {}
    for name, batches in raw["images_per_second"].items():
        peaks = raw["peak_gigaflops"].get(name.partition(":")[2])
        if peaks:
            found[name] = {
                batch: summary(
                    [
                        rate * per_image / (peak * 1e9)
                        for rate, peak in zip(values, peaks, strict=True)
                    ]
                )["median"]
                for batch, values in batches.items()
            }
    return found


if __name__ == "__main__":
    main()
