"""Dense models that were trained here."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from bundle.open_tokenizer import open_tokenizer
from training.core.checkpoint import Progress, save
from training.huggingface.model_error import ModelImportError
from training.importing._gates import check_tokens, golden
from training.importing._golden_inputs import CORPUS
from training.importing.base import SourceOptions
from training.importing.run_source import RunSource
from training.trainer.trained_model import load_model, new_model
from training.trainer.training_recipe import TrainingRecipe

VALUES = {
    "model.vision": {"image_size": 32, "patch_size": 8, "layers": 1, "width": 32, "head_width": 16},
    "model.text": {
        "context_length": 16,
        "vocab_size": 600,
        "layers": 1,
        "width": 32,
        "heads": 2,
    },
}


def run(folder: Path, *, relu: bool, pool: str) -> Path:
    """A run of one checkpoint, with random weights."""
    recipe = TrainingRecipe.load("demo")
    model = dataclasses.replace(
        recipe.model,
        name="",
        vision=VALUES["model.vision"],
        text=VALUES["model.text"],
        embed_dim=16,
        width_factor=1,
        relu=relu,
        pool=pool,
    )
    recipe = dataclasses.replace(recipe, model=model)
    torch.manual_seed(0)
    progress = Progress(step=1, samples=1, seconds=1.0)
    save(folder, new_model(recipe), [], {}, dataclasses.asdict(recipe), progress)
    return folder


@pytest.mark.parametrize("pool", ["cls", "patch_mean"])
def test_a_dense_run_is_read(tmp_path: Path, pool: str) -> None:
    folder = run(tmp_path / "dense_arm", relu=False, pool=pool)
    source = RunSource()
    model = source.load(str(folder), SourceOptions())
    assert source.label(str(folder)) == "dense_arm"
    model.write_tokenizer(tmp_path / "tokenizer.json")
    tokenizer = open_tokenizer(tmp_path / "tokenizer.json", 16, model.tokenization)
    assert check_tokens(model, tokenizer) == len(CORPUS)
    given = golden(model, tokenizer)
    trained, _ = load_model(folder)
    pixels = torch.from_numpy(given.library_pixels[:4])
    assert model.patches is not None
    with torch.inference_mode():
        assert np.allclose(model.image(pixels), trained.encode_image(pixels).codes, atol=1e-6)
        dense, patches = model.patches(pixels)
        assert np.allclose(dense, given.image_dense[:4], atol=1e-5)
        assert np.allclose(patches, trained.encode_patches(pixels), atol=1e-6)
    assert model.logit_scale == pytest.approx(trained.scale.item())


def test_what_is_no_dense_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelImportError, match="no folder of a run or a checkpoint"):
        RunSource().load(str(tmp_path), SourceOptions())
    with pytest.raises(ModelImportError, match="sparse model; `sparseclip bundle export` takes it"):
        RunSource().load(str(run(tmp_path / "s", relu=True, pool="cls")), SourceOptions())
