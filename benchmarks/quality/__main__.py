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
from pathlib import Path

from benchmarks.arguments import at_least
from benchmarks.figures import RESULTS
from benchmarks.quality.arms import ARMS, SPARSE, Results, needed, with_equal_compute
from benchmarks.quality.sweep import Sweep, sweep
from benchmarks.quality.table import plot, table


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
    if given.show:
        print(table(results, arms))
        return
    for arm, seed in missing:
        for other in needed(arm, given.top_k):
            if other not in arms and f"{other}/{seed}" not in results:
                parser.error(f"--arms: {arm} wants the results of {other}, of seed {seed}")
    # The demo recipe's own data hold out no emoji.
    shared = ["data.path=data/build/demo-research"] if given.recipe == "demo" else []
    settings = Sweep(
        recipe=given.recipe,
        changes=[*shared, *given.set],
        top_k=given.top_k,
        runs=given.runs / given.name,
        results=path,
        jobs=given.jobs,
    )
    sweep(settings, missing, results)
    print(table(results, arms))
    plot(results, arms, RESULTS / f"{given.name}.png")


if __name__ == "__main__":
    main()
