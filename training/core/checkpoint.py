"""Checkpoints: safetensors and JSON, written whole or not at all. No pickle."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bundle.atomic import draft_of, is_draft, sync
from training.model.sparse_clip import SparseCLIP
from training.trainer.recipe import Recipe, recipe_from

R = TypeVar("R")

KEEP = 2
"""Complete checkpoints that stay in a run's folder."""


_NAME = re.compile(r"step-\d{8,}")
_RECIPE = "recipe.json"
"""What a run writes first."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run is. All randomness of a step derives from the seed and the step's number."""

    step: int
    """Optimiser steps done."""
    samples: int
    seconds: float
    """Spent training, over all starts of the run."""


def begin(run: Path, recipe: dict[str, Any]) -> None:
    """Makes the folder of a run that has no checkpoint yet, with its recipe.

    Raises CheckpointError when it holds another run, or files of something else.
    """
    text = json.dumps(recipe, indent=2)
    names = sorted(path.name for path in run.iterdir()) if run.is_dir() else []
    foreign = [name for name in names if not is_draft(name)]
    if _RECIPE in foreign:
        if (run / _RECIPE).read_text() != text:
            raise CheckpointError(f"{run.name}: holds a run of another recipe")
        return
    if foreign:
        raise CheckpointError(
            f"{run}: not empty and not a run: it holds {foreign[0]!r}. "
            "Choose a new or an empty folder"
        )
    with draft_of(run / _RECIPE) as file:
        file.write(text.encode())


def save(
    run: Path,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    average: dict[str, Tensor],
    recipe: dict[str, Any],
    progress: Progress,
) -> Path:
    """Writes `run/checkpoints/step-N` and removes the oldest beyond KEEP.

    A process killed at any moment leaves a complete checkpoint, this one or the one before: files
    are written and flushed in a folder of another name, which is renamed last.
    """
    folder = run / "checkpoints"
    final = folder / f"step-{progress.step:08d}"
    draft = folder / f".draft-{progress.step:08d}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    save_file(_plain(model.state_dict()), draft / "model.safetensors")
    save_file(_plain(_moments(model, optimizers)), draft / "optimizer.safetensors")
    if average:
        save_file(_plain(average), draft / "average.safetensors")
    state = {"recipe": recipe, "progress": vars(progress)}
    (draft / "state.json").write_text(json.dumps(state, indent=2))
    for file in draft.iterdir():
        sync(file)
    if final.exists():
        shutil.rmtree(final)
    os.rename(draft, final)
    sync(folder)
    for old in complete(run)[:-KEEP]:
        shutil.rmtree(old)
    return final


def complete(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first. Copies under names of somebody else are not
    among them."""
    return sorted(
        path
        for path in (run / "checkpoints").glob("step-*")
        if _NAME.fullmatch(path.name) and (path / "state.json").is_file()
    )


def read_state(checkpoint: Path) -> tuple[Recipe, Progress]:
    """The recipe and the progress of a checkpoint. Raises CheckpointError when it has none."""
    return read_as(checkpoint, recipe_from)


def read_as(checkpoint: Path, parse: Callable[[object], R]) -> tuple[R, Progress]:
    """The same for a recipe of any kind, which `parse` builds from plain data."""
    try:
        state = json.loads((checkpoint / "state.json").read_text())
        return parse(state["recipe"]), Progress(**state["progress"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{checkpoint.name}: not a checkpoint of ours") from error


def restore(
    checkpoint: Path,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    average: dict[str, Tensor],
) -> None:
    """Loads weights, the optimisers' moments and the weights' average in place."""
    model.load_state_dict(load_file(checkpoint / "model.safetensors"))
    parameters = dict(model.named_parameters())
    owners = {
        parameter: optimizer
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for name, value in load_file(checkpoint / "optimizer.safetensors").items():
        parameter, key = parameters[name.rpartition("/")[0]], name.rpartition("/")[2]
        kept = value.clone() if key == "step" else value.to(parameter.device)
        owners[parameter].state[parameter][key] = kept
    if average:
        for name, value in load_file(checkpoint / "average.safetensors").items():
            average[name].copy_(value)


def find(path: Path) -> Path:
    """A checkpoint from its own folder, or the last one of a run's folder."""
    if (path / "state.json").is_file():
        return path
    found = complete(path)
    if not found:
        raise CheckpointError(f"{path.name}: holds no checkpoint")
    return found[-1]


def load_model(path: Path) -> tuple[SparseCLIP, Recipe]:
    """The model of a checkpoint (or of a run's last one), in evaluation mode, with its recipe.

    These are the averaged weights when the recipe keeps an average.
    """
    checkpoint = find(path)
    recipe, _ = read_state(checkpoint)
    model = SparseCLIP(recipe.model)
    average = checkpoint / "average.safetensors"
    model.load_state_dict(
        load_file(average if average.is_file() else checkpoint / "model.safetensors")
    )
    return model.eval(), recipe


def _moments(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": value
        for optimizer in optimizers
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _plain(tensors: dict[str, Any]) -> dict[str, Tensor]:
    return {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
