"""Checkpoints: safetensors and JSON, written whole or not at all. No pickle."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bundle.atomic import replace_directory, staging_directory
from bundle.tensor_errors import tensor_writes

R = TypeVar("R")

CHECKPOINTS_KEPT = 2
"""Complete checkpoints that stay in a run's folder."""

_NAME = re.compile(r"step-\d{8,}")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is. Randomness needs no state: it derives from the seed and the step."""

    step: int
    """Optimiser steps taken."""
    samples: int
    """Pairs or conversations in these steps, over all ranks."""
    seconds: float
    """Time of these steps, also before the run was resumed."""


def save(
    run: Path,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    average: dict[str, Tensor],
    recipe: dict[str, Any],
    progress: Progress,
) -> Path:
    """Writes `run/checkpoints/step-N` and removes the oldest beyond CHECKPOINTS_KEPT.

    A process killed at any moment leaves a complete checkpoint, this one or the one before: files
    are written and flushed in a staging directory, from which the whole is renamed last. Raises
    OSError where the disk does not take it.
    """
    folder = run / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{progress.step:08d}"
    with staging_directory(folder) as staging:
        draft = staging / target.name
        draft.mkdir()
        with tensor_writes():
            save_file(_on_cpu(model.state_dict()), draft / "model.safetensors")
            states = _optimizer_states(model, optimizers)
            save_file(_on_cpu(states), draft / "optimizer.safetensors")
            if average:
                save_file(_on_cpu(average), draft / "average.safetensors")
        state = {"recipe": recipe, "progress": vars(progress)}
        (draft / "state.json").write_text(json.dumps(state, indent=2))
        replace_directory(draft, target)
    for old in complete_checkpoints(run)[:-CHECKPOINTS_KEPT]:
        shutil.rmtree(old)
    return target


def complete_checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first, without copies that have other names."""
    return sorted(
        path
        for path in (run / "checkpoints").glob("step-*")
        if _NAME.fullmatch(path.name) and (path / "state.json").is_file()
    )


def read_checkpoint(checkpoint: Path, parse: Callable[[object], R]) -> tuple[R, Progress]:
    """The recipe, which `parse` builds from plain data, and the progress of a checkpoint.

    Raises CheckpointError when the folder is not a checkpoint of that kind of recipe.
    """
    try:
        state = json.loads((checkpoint / "state.json").read_text())
        return parse(state["recipe"]), Progress(**state["progress"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{checkpoint.name}: not a checkpoint of sparseclip") from error


def restore(
    checkpoint: Path,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    average: dict[str, Tensor],
) -> None:
    """Loads a checkpoint's weights, optimiser states and averaged weights into those given."""
    model.load_state_dict(load_file(checkpoint / "model.safetensors"))
    parameters = dict(model.named_parameters())
    owners = {
        parameter: optimizer
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for name, value in load_file(checkpoint / "optimizer.safetensors").items():
        parameter_name, _, key = name.rpartition("/")
        parameter = parameters[parameter_name]
        # torch keeps the count of steps on the CPU, wherever the parameter is.
        state = value.clone() if key == "step" else value.to(parameter.device)
        owners[parameter].state[parameter][key] = state
    if average:
        for name, value in load_file(checkpoint / "average.safetensors").items():
            average[name].copy_(value)


def find_checkpoint(path: Path) -> Path:
    """The checkpoint in the folder `path`: the folder itself, or the last one of a run.

    Raises CheckpointError when there is none.
    """
    if (path / "state.json").is_file():
        return path
    checkpoints = complete_checkpoints(path)
    if not checkpoints:
        raise CheckpointError(f"{path.name}: holds no checkpoint")
    return checkpoints[-1]


def _optimizer_states(
    model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> dict[str, Tensor]:
    """The optimisers' tensors by `PARAMETER/KEY`."""
    return {
        f"{name}/{key}": value
        for optimizer in optimizers
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _on_cpu(tensors: dict[str, Any]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU. A tensor that two names share is there for each of them, as
    safetensors wants it."""
    result: dict[str, Tensor] = {}
    written: set[int] = set()
    for name, value in tensors.items():
        tensor = value.detach().cpu().contiguous()
        result[name] = tensor.clone() if tensor.data_ptr() in written else tensor
        written.add(tensor.data_ptr())
    return result
