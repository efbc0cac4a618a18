"""The results of arms as one table, and as a plot of accuracy over density."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.arms import RELU_OFF, Results

SPLITS = ("val_style", "val_codepoint", "test_style", "test_codepoint", "test_both")
"""The usual held-out splits, in the order of the table. Others follow."""


def table(results: Results, arms: Sequence[str]) -> str:
    """A row for each arm, as Markdown: how long it trained, and for each held-out split top-1, L0
    of images and active concepts. Means ± standard errors over seeds. Dense arms have no L0."""
    rows = {arm: runs for arm in arms if (runs := runs_of(results, arm))}
    splits = splits_of([run for runs in rows.values() for run in runs])
    head = ["arm", "seeds", "steps", "seconds", "scale"]
    head += [f"{split}: top-1 / L0 / active" for split in splits]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for arm, runs in rows.items():
        steps, seconds = (statistics.mean(run[name] for run in runs) for name in HOW_LONG)
        cells = [arm, str(len(runs)), f"{steps:,.0f}", f"{seconds:,.0f}", scale(runs)]
        cells += [figures(runs, split) for split in splits]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


HOW_LONG = ("steps", "seconds")


def runs_of(results: Results, arm: str) -> list[dict[str, Any]]:
    """The results of an arm, for all seeds."""
    return [run for key, run in results.items() if key.split("/")[0] == arm]


def splits_of(runs: Sequence[dict[str, Any]]) -> list[str]:
    """The splits that all runs were measured on."""
    found = [{name.split(".")[0] for name in run["figures"]} for run in runs]
    common = set.intersection(*found) if found else set()
    return [s for s in SPLITS if s in common] + sorted(common.difference(SPLITS))


def scale(runs: Sequence[dict[str, Any]]) -> str:
    """The logit scale that was reached, and the cap where it is at it."""
    reached = statistics.mean(run["logit_scale"] for run in runs)
    caps = {run.get("logit_scale_cap") for run in runs}
    is_capped = all(run["logit_scale"] > 0.999 * run.get("logit_scale_cap", 1e9) for run in runs)
    return f"{reached:.1f}" + (", its cap" if is_capped and len(caps) == 1 else "")


def figures(runs: Sequence[dict[str, Any]], split: str) -> str:
    """One cell: an arm on a split."""
    top1, l0, active = (
        spread([run["figures"][f"{split}.{name}"] for run in runs])
        for name in ("top1", "l0_image", "active")
    )
    return f"{top1}% / – / –" if is_dense(runs[0]) else f"{top1}% / {l0} / {active}%"


def is_dense(run: dict[str, Any]) -> bool:
    """Whether a run has no ReLU, and so no sparse codes."""
    return RELU_OFF in run["changes"]


def plot(results: Results, arms: Sequence[str], path: Path) -> None:
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
        if is_dense(runs[0]):
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


def spread(values: Sequence[float]) -> str:
    """The mean, with the standard error when there are several values."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.1f}"
    return f"{mean:.1f} ± {statistics.stdev(values) / len(values) ** 0.5:.1f}"
