"""Compares variants of a recipe (dense, other pools, heads and caps) on the same data and steps.

Each arm is the recipe with a few values changed. It is trained for several seeds and evaluated on
every held-out split. A stopped sweep resumes. Choose by the val_ splits; the test_ splits are for
reports.

    python -m benchmarks.quality --arms sparse dense --seeds 0 1 2 --jobs 2
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import platform
import statistics
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from benchmarks.arguments import at_least
from serving.engines.base import available_cores

DENSE = ["model.relu=false", "model.bias=null", "model.rep_relu=false"]
NARROW = ["model.width_factor=1", "model.logit_scale_cap=100.0"]
FULL_RATE = ["optimizer.image_trunk=1.0"]
DECAY = ["optimizer.weight_decay=0.1"]
ARMS: dict[str, list[str]] = {
    "sparse": [],
    "dense": [*DENSE, *NARROW],
    "dense_full_rate": [*DENSE, *NARROW, *FULL_RATE],
    "dense_full_rate_decay": [*DENSE, *NARROW, *FULL_RATE, *DECAY],
    "wide_without_relu": [*DENSE, "model.logit_scale_cap=100.0"],
    "relu_without_width": ["model.width_factor=1"],
    "cls": ["model.pool=cls"],
    "stacked": ["model.head=stacked"],
    "no_bias": ["model.bias=null", "model.rep_relu=false"],
    "no_rep_relu": ["model.rep_relu=false"],
    "cap_100": ["model.logit_scale_cap=100.0"],
    "cap_20": ["model.logit_scale_cap=20.0"],
    "cap_15": ["model.logit_scale_cap=15.0"],
    "cap_10": ["model.logit_scale_cap=10.0"],
    "cap_8": ["model.logit_scale_cap=8.0"],
}
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Trains and evaluates the runs that have no result yet, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["sparse", "dense"])
    parser.add_argument("--seeds", nargs="+", type=at_least(0), default=[0, 1, 2])
    parser.add_argument(
        "--set", nargs="*", default=[], help="values of every arm, such as loop.epochs=2"
    )
    parser.add_argument("--name", default="quality", help="name of the results file")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument(
        "--jobs", type=at_least(1), default=1, help="runs at a time, which share the cores"
    )
    arguments = parser.parse_args()
    path = RESULTS / f"{arguments.name}.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    missing = [(a, s) for s in arguments.seeds for a in arguments.arms if f"{a}/{s}" not in results]
    with ProcessPoolExecutor(
        arguments.jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=share_cores,
        initargs=(arguments.jobs,),
    ) as pool:
        runs = {pool.submit(measure, arguments, arm, seed): (arm, seed) for arm, seed in missing}
        for run in as_completed(runs):
            arm, seed = runs[run]
            results[f"{arm}/{seed}"] = run.result()
            path.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")
    print(table(results, arguments.arms))
    plot(results, arguments.arms, RESULTS / f"{arguments.name}.png")


def share_cores(jobs: int) -> None:
    """Limits torch to this process's part of the cores."""
    import torch

    torch.set_num_threads(max(1, available_cores() // jobs))


def measure(arguments: argparse.Namespace, arm: str, seed: int) -> dict[str, Any]:
    """Trains one run; returns its figures on every held-out split, with steps and seconds."""
    import torch

    from training.core.checkpoint import find_checkpoint
    from training.evaluation.encoder import CheckpointEncoder
    from training.evaluation.evaluate import evaluate_split, figures_by_name
    from training.loading.samples import held_out_splits
    from training.trainer.loop import train
    from training.trainer.trained_model import read_state
    from training.trainer.training_recipe import TrainingRecipe

    # The demo recipe's own data hold out no emoji.
    data = ["data.path=data/build/demo-research"] if arguments.recipe == "demo" else []
    changes = [*data, *arguments.set, *ARMS[arm], f"loop.seed={seed}"]
    recipe = TrainingRecipe.load(arguments.recipe, changes)
    run = arguments.runs / arguments.name / f"{arm}-{seed}"
    last = train(recipe, run)
    encoder = CheckpointEncoder(last)
    folder = recipe.data.folder
    figures = figures_by_name([evaluate_split(encoder, folder, s) for s in held_out_splits(folder)])
    _, progress = read_state(find_checkpoint(run))
    return {
        "recipe": arguments.recipe,
        "changes": changes,
        "figures": figures,
        "steps": progress.step,
        "seconds": round(progress.seconds, 1),
        "logit_scale": round(float(encoder.model.scale.detach()), 3),
        "concepts": recipe.model.concepts,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }


def runs_of(results: dict[str, Any], arm: str) -> list[dict[str, Any]]:
    """The results of an arm, for all seeds."""
    return [run for key, run in results.items() if key.split("/")[0] == arm]


def table(results: dict[str, Any], arms: list[str]) -> str:
    """Means ± standard errors over seeds, as a Markdown table."""
    columns = [
        "test_style.top1",
        "test_style.top5",
        "test_codepoint.top1",
        "test_both.top1",
        "test_style.l0_image",
        "test_style.active",
    ]
    lines = ["| arm | seeds | scale | " + " | ".join(columns) + " |"]
    lines.append("|" + "---|" * (len(columns) + 3))
    for arm in arms:
        runs = runs_of(results, arm)
        if not runs:
            continue
        scale = statistics.mean(r["logit_scale"] for r in runs)
        cells = [spread([r["figures"][c] for r in runs]) for c in columns]
        lines.append(f"| {arm} | {len(runs)} | {scale:.1f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(results: dict[str, Any], arms: list[str], path: Path) -> None:
    """Plots accuracy on the unseen style over density: a point per run, a line per dense arm."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(figsize=(8.5, 4.5), layout="constrained")
    dashes = itertools.cycle(["--", "-.", ":"])
    for arm in arms:
        runs = runs_of(results, arm)
        if not runs:
            continue
        accuracy = [r["figures"]["test_style.top1"] for r in runs]
        if DENSE[0] in runs[0]["changes"]:  # dense models have no L0
            axes.axhline(statistics.mean(accuracy), label=arm, color="grey", ls=next(dashes))
        else:
            density = [r["figures"]["test_style.l0_image"] for r in runs]
            axes.scatter(density, accuracy, label=arm)
    axes.set(
        xlabel="active concepts per image (L0)",
        ylabel="top-1 on the unseen style, %",
        xscale="log",
    )
    axes.xaxis.set_major_formatter(ticker.ScalarFormatter())
    axes.xaxis.set_minor_formatter(ticker.ScalarFormatter())
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    figure.savefig(path, dpi=120)


def spread(values: list[float]) -> str:
    """The mean, with the standard error when there are several values."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.1f}"
    return f"{mean:.1f} ± {statistics.stdev(values) / len(values) ** 0.5:.1f}"


if __name__ == "__main__":
    main()
