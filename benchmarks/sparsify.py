"""Heads of `sparseclip sparsify` over dense models of several seeds: accuracy beside the teacher's,
density, clarity with its controls, names and seconds; and the time alone on synthetic embeddings.

A stopped sweep resumes. Choose by the val_ splits; the test_ splits are for reports.

    python -m benchmarks.sparsify --bundles models/dense0 models/dense1 --concepts 4096 16384
    python -m benchmarks.sparsify --bundles models/dense0 --concepts 4096 --l0 0.01
    python -m benchmarks.sparsify --rows 100000 --width 512 --concepts 16384
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import resource
import statistics
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.arguments import above, at_least
from benchmarks.quality.table import spread
from training.evaluation.minilm import fetched_encoder
from training.loading.pair_data import PairData
from training.sparsify.embeddings.dense_encoder import DenseBundle, Vectors, unit_rows
from training.sparsify.embeddings.embedding_cache import EmbeddingCache
from training.sparsify.embeddings.head_data import HeadData
from training.sparsify.head_options import HeadOptions
from training.sparsify.head_trainer import train_head
from training.sparsify.heads import HEADS
from training.sparsify.job import SparsifyConfig, SparsifyJob

RESULTS = Path(__file__).parent / "results"

SPLIT = "test_style"
"""The held-out split of the table: known emoji in a style that no training image has."""


def main() -> None:
    """Measures what has no result yet, writes the results and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundles", type=Path, nargs="*", default=[], help="dense bundles")
    parser.add_argument("--data", type=Path, default=Path("data/build/demo-research"))
    parser.add_argument("--concepts", type=at_least(1), nargs="+", default=[4096, 16384])
    parser.add_argument(
        "--l0",
        type=above(0, up_to=1),
        nargs="+",
        default=[HeadOptions.l0],
        help="largest shares of C",
    )
    parser.add_argument("--heads", nargs="+", choices=HEADS.names, default=list(HEADS.names))
    parser.add_argument("--runs", type=Path, default=Path("runs/sparsify"))
    parser.add_argument("--rows", type=at_least(0), default=0, help="time so many synthetic rows")
    parser.add_argument("--width", type=at_least(1), default=512, help="D of synthetic rows")
    arguments = parser.parse_args()
    path = RESULTS / "sparsify.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    for concepts in arguments.concepts:
        for name in arguments.heads:
            key = f"synthetic/{arguments.rows}x{arguments.width}/{concepts}/{name}"
            if arguments.rows and key not in results:
                results[key] = timed(name, concepts, arguments.rows, arguments.width)
                path.write_text(json.dumps(results, indent=1) + "\n")
        for bundle, l0 in product(arguments.bundles, arguments.l0):
            options = HeadOptions(concepts=concepts, l0=l0)
            measure(arguments, bundle, options, results, path)
    print(table(results, list(product(arguments.concepts, arguments.l0))))


def key_of(teacher: str, concepts: int | None, l0: float, head: str) -> str:
    """The key of a head's result. The usual L0 goes without saying."""
    return f"{teacher}/{concepts}/{head}" + ("" if l0 == HeadOptions.l0 else f"/{l0}")


def measure(
    arguments: argparse.Namespace,
    bundle: Path,
    options: HeadOptions,
    results: dict[str, Any],
    path: Path,
) -> None:
    """Trains and measures the heads over one teacher that have no result yet."""
    dense = DenseBundle(bundle)
    keys = {
        name: key_of(dense.name, options.concepts, options.l0, name) for name in arguments.heads
    }
    missing = [name for name, key in keys.items() if key not in results]
    if not missing and f"{dense.name}/dense" in results:
        return
    data = PairData(arguments.data)
    config = SparsifyConfig(
        bundle=bundle,
        data=data,
        split="train",
        vocabulary=None,
        models_dir=arguments.runs,
        name="benchmark",
        version="0",
        head="contrastive",
        compare=(),
        options=options,
        run=arguments.runs / dense.name.replace("/", "-") / f"{options.concepts}-{options.l0}",
        cache=None,
        judge=fetched_encoder(),
    )
    job = SparsifyJob(config, dense, EmbeddingCache(dense))
    results[f"{dense.name}/dense"] = {"splits": job.figures.dense()}
    for name in missing:
        results[keys[name]] = {**job.measured(name).figures, **machine()}
        path.write_text(json.dumps(results, indent=1) + "\n")


def timed(name: str, concepts: int, rows: int, width: int) -> dict[str, Any]:
    """Seconds and memory of a head's training on random unit rows. Their content costs the same as
    that of real ones."""
    generator = np.random.default_rng(0)

    def random_rows(count: int) -> Vectors:
        return unit_rows(generator.normal(size=(count, width)))

    data = HeadData(
        images=random_rows(rows).astype(np.float16),
        texts=torch.from_numpy(random_rows(20_000)),
        caption_rows=np.arange(rows) % 20_000,
        first=np.arange(rows + 1),
        vocabulary=np.arange(20_000),
    )
    options = HeadOptions(concepts=concepts)
    with tempfile.TemporaryDirectory() as folder:
        trained = train_head(options.recipe(name, width, 100.0, data), data, Path(folder))
    return {
        "seconds": round(trained.seconds, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "options": dataclasses.asdict(options),
        **machine(),
    }


def machine() -> dict[str, Any]:
    """What the figures were measured with, and how many jobs the cores had in the last minutes:
    over one, others slowed the training."""
    return {
        "load": round(os.getloadavg()[1], 1),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def table(results: dict[str, Any], settings: list[tuple[int, float]]) -> str:
    """The figures on the unseen style over the teachers, beside the teachers' own and those of the
    sparse arm of `make quality` with the same recipe, as a Markdown table."""
    columns = ["head", "C", "seeds", "top-1", "of the teacher", "text to image", "L0", "untrained"]
    columns += [
        "again",
        "clarity (random, untrained)",
        "confidence of names (untrained)",
        "s",
        "MiB",
    ]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    teachers = {
        key.removesuffix("/dense"): value["splits"][SPLIT]
        for key, value in results.items()
        if key.endswith("/dense")
    }
    if teachers:
        own = list(teachers.values())
        lines.append(_row(["dense teacher", "", str(len(own)), *_accuracy(own, own)]))
        lines += _trained_in(statistics.mean(t["top1"]["percent"] for t in own))
    for (concepts, l0), name in product(settings, HEADS.names):
        keys = {t: key_of(t, concepts, l0, name) for t in teachers}
        runs = [(results[key], teachers[t]) for t, key in keys.items() if key in results]
        if runs:
            lines.append(_line(name, concepts, runs))
    return "\n".join(lines)


def _trained_in(teacher: float) -> list[str]:
    # The dense arms that the committed results have as teachers are of the earlier recipe.
    path = RESULTS / "quality_earlier.json"
    if not path.is_file():
        return []
    runs = [v for key, v in json.loads(path.read_text()).items() if key.startswith("sparse/")]
    top1 = [run["figures"][f"{SPLIT}.top1"] for run in runs]
    cells = [
        "sparse, trained with its towers",
        f"{runs[0]['concepts']:,}",
        str(len(runs)),
        spread(top1),
        spread([100 * value / teacher for value in top1]),
        spread([run["figures"][f"{SPLIT}.text_to_image_1"] for run in runs]),
        spread([run["figures"][f"{SPLIT}.l0_image"] for run in runs]),
    ]
    return [_row(cells)]


def _line(name: str, concepts: int, pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    runs = [run for run, _ in pairs]
    codes = [run["splits"][SPLIT] for run in runs]
    again = [f["reconstructed"]["top1"]["percent"] for f in codes if "reconstructed" in f]
    clarity = [f["clarity"] for f in codes if f["clarity"]]
    untrained = [f["untrained"]["clarity"] for f in codes if f["untrained"]["clarity"]]
    shown = [
        f"{statistics.mean(c[name] for c in figures):.3f}" if figures else ""
        for figures, name in (
            (clarity, "clarity"),
            (clarity, "clarity_random"),
            (untrained, "clarity"),
        )
    ]
    confidence, by_chance = (
        statistics.mean(run[names]["mean_confidence"] for run in runs)
        for names in ("names", "names_untrained")
    )
    cells = [
        name,
        f"{concepts:,}",
        str(len(pairs)),
        *_accuracy(codes, [teacher for _, teacher in pairs]),
        spread([f["image_sparsity"]["l0"] for f in codes]),
        spread([f["untrained"]["top1"]["percent"] for f in codes]),
        spread(again) if again else "",
        f"{shown[0]} ({shown[1]}, {shown[2]})",
        f"{confidence:.2f} ({by_chance:.2f})",
        spread([run["seconds"] for run in runs]),
        f"{max(run['peak_mib'] for run in runs):,}",
    ]
    return _row(cells)


def _accuracy(runs: list[dict[str, Any]], teachers: list[dict[str, Any]]) -> list[str]:
    pairs = list(zip(runs, teachers, strict=True))
    shares = [100 * run["top1"]["percent"] / t["top1"]["percent"] for run, t in pairs]
    return [
        spread([run["top1"]["percent"] for run in runs]),
        spread(shares),
        spread([run["text_to_image_1"]["percent"] for run in runs]),
    ]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
