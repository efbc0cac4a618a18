"""The model that a run starts with: random, or warm."""

from __future__ import annotations

from pathlib import Path

import torch

from training.model.efficientnet import TIMM_NAME, imagenet_weights
from training.model.sparse_clip import SparseCLIP
from training.model.towers import pretrained_towers
from training.trainer.recipe import TrainingRecipe
from training.trainer.trained_model import load_model, new_model


def start_model(recipe: TrainingRecipe) -> SparseCLIP:
    """Builds the recipe's model as its `start` section says.

    Raises ValueError naming the field when towers and model do not fit, DataError when a package
    cannot be had.
    """
    start = recipe.start
    if start.open_clip:
        towers = pretrained_towers(start.open_clip, start.pretrained)
        if recipe.model.head == "stacked" and towers.embed_dim != recipe.model.embed_dim:
            raise ValueError(f"model.embed_dim: {start.open_clip} has {towers.embed_dim}")
        model = new_model(recipe, towers)
    else:
        model = new_model(recipe)
    if start.image == "efficientnet_lite0":
        if recipe.model.vision.get("timm_model_name") != TIMM_NAME:
            raise ValueError(f"start.image: wants model.vision.timm_model_name={TIMM_NAME}")
        model.image.load_trunk_weights(imagenet_weights())
    if start.checkpoint:
        _take(model, Path(start.checkpoint))
    if start.unlocked_groups and not start.freeze_image:
        raise ValueError("start.unlocked_groups: wants start.freeze_image")
    if start.freeze_image:
        model.image.freeze(start.unlocked_groups)
    return model


@torch.no_grad()
def _take(model: SparseCLIP, path: Path) -> None:
    """Copies the checkpoint's weights whose names and shapes fit: a dense run's towers serve a
    sparse one, whose heads start at random."""
    source = load_model(path)[0].state_dict()
    fitting = {
        k: source[k]
        for k, v in model.state_dict().items()
        if k in source and v.shape == source[k].shape
    }
    if not any(k.startswith("image.") for k in fitting):
        raise ValueError("start.checkpoint: none of its image tower fits this model")
    model.load_state_dict(fitting, strict=False)
