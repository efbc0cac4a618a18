"""The folder of a run, in which the run is begun or resumed, and no other recipe is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple, TypeVar

from bundle.atomic import is_draft, write_file
from training.core.checkpoint import (
    CheckpointError,
    Progress,
    complete_checkpoints,
    read_checkpoint,
)
from training.core.recipe_file import BaseRecipe

RECIPE_FILE = "recipe.json"
"""The file that a run writes first."""

SHOWN_FIELDS = 4
"""How many fields an error names in which a recipe differs."""

DESCRIPTIONS = ("about",)
"""Fields that distinguish no recipes."""

R = TypeVar("R", bound=BaseRecipe)


class TrainingError(RuntimeError):
    """A run that must not continue; the message says why."""


class StartingPoint(NamedTuple):
    """Where a run starts."""

    checkpoint: Path | None
    """The checkpoint that it resumes from; None for a new run."""
    progress: Progress


def open_run(run: Path, recipe: BaseRecipe, *, is_first: bool = True) -> StartingPoint:
    """Begins the run in the folder `run`, or finds the checkpoint that it resumes from.

    The first rank writes the recipe into a new run's folder. Raises CheckpointError when the folder
    holds a run of another recipe, or files that are not a run's.
    """
    checkpoints = complete_checkpoints(run)
    if not checkpoints:
        if is_first:
            _begin(run, recipe)
        return StartingPoint(None, Progress(step=0, samples=0, seconds=0.0))
    saved, progress = read_checkpoint(checkpoints[-1], type(recipe).parse_saved)
    _refuse_other(run, saved, recipe)
    return StartingPoint(checkpoints[-1], progress)


def begun_recipe(run: Path, kind: type[R]) -> R | None:
    """The recipe with which the run in the folder `run` was begun; None when there is none."""
    try:
        return kind.parse_saved(json.loads((run / RECIPE_FILE).read_bytes()))
    except (OSError, ValueError):  # missing, not JSON, or another kind of recipe
        return None


def _begin(run: Path, recipe: BaseRecipe) -> None:
    names = sorted(path.name for path in run.iterdir()) if run.is_dir() else []
    foreign = [name for name in names if not is_draft(name)]
    if RECIPE_FILE in foreign:  # the run was stopped before its first checkpoint
        _refuse_other(run, begun_recipe(run, type(recipe)), recipe)
    elif foreign:
        raise CheckpointError(
            f"{run}: not empty and not a run: it holds {foreign[0]!r}. "
            "Choose a new or an empty folder"
        )
    else:
        write_file(run / RECIPE_FILE, json.dumps(recipe.to_dict(), indent=2).encode())


def _refuse_other(run: Path, saved: BaseRecipe | None, recipe: BaseRecipe) -> None:
    if saved != recipe:
        fields = [] if saved is None else differing(saved.to_dict(), recipe.to_dict())
        shown = ", ".join(fields[:SHOWN_FIELDS]) + (", ..." if len(fields) > SHOWN_FIELDS else "")
        raise CheckpointError(
            f"--output: {run.name} holds a run of another recipe{shown and f' (other: {shown})'}."
            " Choose a new folder, or remove that one"
        )


def differing(saved: object, given: object, at: str = "") -> list[str]:
    """The fields, such as `optimizer.lr`, in which two recipes as plain data differ."""
    if not (isinstance(saved, dict) and isinstance(given, dict)):
        return [] if saved == given or at in DESCRIPTIONS else [at]
    return [
        field
        for key in {**saved, **given}
        for field in differing(saved.get(key), given.get(key), f"{at}.{key}" if at else key)
    ]
