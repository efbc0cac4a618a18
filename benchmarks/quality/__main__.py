"""Compares variants of a recipe (dense, other heads, pools, caps and penalties) on the same data.

Each arm is the recipe with a few values changed. It is trained for several seeds and evaluated on
every held-out split. All arms have the same steps; with --equal-compute each dense arm is also
trained for the seconds that the sparse one took. A stopped sweep resumes. Choose by the val_
splits; the test_ splits are for reports.

    python -m benchmarks.quality --arms sparse dense --seeds 0 1 2 --jobs 2
    python -m benchmarks.quality --arms sparse dense top_k l1_0.03 --equal-compute
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from benchmarks.arguments import at_least
from benchmarks.figures import RESULTS
from benchmarks.quality.arms import ARMS, SPARSE, Results, changes_of, needed, with_equal_compute
from benchmarks.quality.table import plot, table
from serving.engines.base import available_cores
from training.trainer.training_recipe import TrainingRecipe


def main() -> None:
    """Trains and evaluates the runs that have no result yet, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=[SPARSE, "dense"])
    parser.add_argument("--seeds", nargs="+", type=at_least(0), default=[0, 1, 2])
    parser.add_argument(
        "--equal-compute",
        action="store_true",
        help="train dense arms also for as long as the sparse one takes",
    )
    parser.add_argument(
        "--top-k", type=at_least(1), help="K of the arm top_k; default: L0 of the sparse arm"
    )
    parser.add_argument(
        "--set", nargs="*", default=[], help="values of every arm, such as loop.epochs=2"
    )
    parser.add_argument("--name", default="quality", help="name of the results file")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument(
        "--jobs", type=at_least(1), default=1, help="runs at a time, which share the cores"
    )
    parser.add_argument(
        "--show", action="store_true", help="print the table of the results so far, and train none"
    )
    given = parser.parse_args()
    arms = with_equal_compute(given.arms) if given.equal_compute else given.arms
    path = RESULTS / f"{given.name}.json"
    results: Results = json.loads(path.read_text()) if path.is_file() else {}
    runs = [(arm, seed) for seed in given.seeds for arm in arms]
    missing = [(arm, seed) for arm, seed in runs if f"{arm}/{seed}" not in results]
    for arm, seed in missing:
        for other in needed(arm, given.top_k):
            if other not in arms and f"{other}/{seed}" not in results:
                parser.error(f"--arms: {arm} wants the results of {other}, of seed {seed}")
    if not given.show:
        sweep(given, missing, results, path)
    print(table(results, arms))
    plot(results, arms, RESULTS / f"{given.name}.png")


def sweep(
    given: argparse.Namespace, missing: Sequence[tuple[str, int]], results: Results, path: Path
) -> None:
    """Measures the runs, each once those that it follows from are there, and writes each result."""
    # The demo recipe's own data hold out no emoji.
    shared = ["data.path=data/build/demo-research"] if given.recipe == "demo" else []
    shared += given.set
    epochs = TrainingRecipe.load(given.recipe, shared).loop.epochs
    waiting, running = list(missing), dict[Future[dict[str, Any]], str]()
    with ProcessPoolExecutor(
        given.jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=share_cores,
        initargs=(given.jobs,),
    ) as pool:
        while waiting or running:
            for arm, seed in list(waiting):
                if any(f"{other}/{seed}" not in results for other in needed(arm, given.top_k)):
                    continue
                own = changes_of(arm, seed, results, epochs, given.top_k)
                changes = [*shared, *own, f"loop.seed={seed}"]
                run = given.runs / given.name / f"{arm}-{seed}"
                running[pool.submit(measure, given.recipe, changes, run)] = f"{arm}/{seed}"
                waiting.remove((arm, seed))
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                results[running.pop(done)] = done.result()
                path.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")


def share_cores(jobs: int) -> None:
    """Limits torch to this process's part of the cores."""
    import torch

    torch.set_num_threads(max(1, available_cores() // jobs))


def measure(name: str, changes: list[str], run: Path) -> dict[str, Any]:
    """Trains one run; returns its figures on every held-out split, with steps and seconds."""
    import torch

    from training.core.checkpoint import find_checkpoint
    from training.evaluation.encoder import CheckpointEncoder
    from training.evaluation.evaluate import evaluate_split, figures_by_name
    from training.loading.samples import held_out_splits
    from training.trainer.loop import train
    from training.trainer.trained_model import read_state

    recipe = TrainingRecipe.load(name, changes)
    last = train(recipe, run)
    encoder = CheckpointEncoder(last)
    folder = recipe.data.folder
    figures = figures_by_name([evaluate_split(encoder, folder, s) for s in held_out_splits(folder)])
    _, progress = read_state(find_checkpoint(run))
    return {
        "recipe": name,
        "changes": changes,
        "figures": figures,
        "steps": progress.step,
        "seconds": round(progress.seconds, 1),
        "logit_scale": round(float(encoder.model.scale.detach()), 3),
        "logit_scale_cap": recipe.model.logit_scale_cap,
        "concepts": recipe.model.concepts,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }


if __name__ == "__main__":
    main()
