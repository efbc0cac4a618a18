"""Trains and evaluates the runs of arms, several at a time. A run that was stopped resumes."""

from __future__ import annotations

import json
import multiprocessing
import platform
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.quality.arms import Results, changes_of, needed
from serving.engines.base import available_cores
from training.trainer.training_recipe import TrainingRecipe


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What the runs of a sweep share."""

    recipe: str
    """Name or path of the recipe."""
    changes: Sequence[str]
    """Values of every arm."""
    top_k: int | None
    """K of the arm `top_k`; None for the L0 of the sparse arm."""
    runs: Path
    """The folder of the runs."""
    results: Path
    """The file of the results."""
    jobs: int
    """Runs at a time."""


def sweep(settings: Sweep, missing: Sequence[tuple[str, int]], results: Results) -> None:
    """Measures the runs (arm, seed), each once those that it follows from are there, and writes
    each result."""
    epochs = TrainingRecipe.load(settings.recipe, settings.changes).loop.epochs
    waiting, running = list(missing), dict[Future[dict[str, Any]], str]()
    with ProcessPoolExecutor(
        settings.jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=share_cores,
        initargs=(settings.jobs,),
    ) as pool:
        while waiting or running:
            for arm, seed in list(waiting):
                if any(f"{other}/{seed}" not in results for other in needed(arm, settings.top_k)):
                    continue
                own = changes_of(arm, seed, results, epochs, settings.top_k)
                changes = [*settings.changes, *own, f"loop.seed={seed}"]
                run = settings.runs / f"{arm}-{seed}"
                running[pool.submit(measure, settings.recipe, changes, run)] = f"{arm}/{seed}"
                waiting.remove((arm, seed))
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                results[running.pop(done)] = done.result()
                text = json.dumps(dict(sorted(results.items())), indent=1)
                settings.results.write_text(text + "\n")


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
        "seconds": round(progress.seconds, 3),
        "logit_scale": round(float(encoder.model.scale.detach()), 3),
        "logit_scale_cap": recipe.model.logit_scale_cap,
        "concepts": recipe.model.concepts,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }
