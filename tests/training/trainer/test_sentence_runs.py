"""Runs whose text tower stands on a sentence encoder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file

from tests.support.paths import ICONS
from tests.support.tiny_encoders import write_encoder
from tests.training.conftest import tiny_recipe
from tests.training.importing.hf_edits import tensors
from tests.training.trainer.test_loop import losses, weights
from training.cli.data import data
from training.core import checkpoint
from training.core.checkpoint import CheckpointError
from training.evaluation.encoder import CheckpointEncoder
from training.model.sentence_tower import SentenceTower
from training.trainer.loop import train
from training.trainer.trained_model import load_model
from training.trainer.training_recipe import TrainingRecipe


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoders") / "bert")


def recipe_over(folder: Path, frozen: bool = True, **sections: object) -> TrainingRecipe:
    text = {
        "sentence_encoder": str(folder),
        "hidden": 32,
        "context_length": 20,
        "frozen": frozen,
    }
    given: dict[str, dict[str, object]] = {"model": {"text": text}}
    given |= sections  # type: ignore[arg-type]
    return tiny_recipe(**given)


def test_it_is_trained_resumes_and_is_evaluated(bert: Path, tmp_path: Path) -> None:
    recipe = recipe_over(bert, loop={"epochs": 3, "ema": 0.9})
    train(recipe, tmp_path / "whole", stop_after=1)
    before = weights(tmp_path / "whole")
    train(recipe, tmp_path / "whole")
    after, curve = weights(tmp_path / "whole"), losses(tmp_path / "whole")
    moved = [name for name in after if not torch.equal(before[name], after[name])]
    assert {f"text.layers.{i}.weight" for i in (0, 2)} <= set(moved)
    train(recipe, tmp_path / "stopped", stop_after=5)
    train(recipe, tmp_path / "stopped")
    assert losses(tmp_path / "stopped") == pytest.approx(curve, rel=1e-5)

    last = checkpoint.find_checkpoint(tmp_path / "whole")
    for name in ("model", "average", "optimizer"):
        names = load_file(last / f"{name}.safetensors").keys()
        assert not [name for name in names if name.startswith("text.trunk.")]
        assert [name for name in names if name.startswith("text.layers.0.weight")]
    model, saved = load_model(tmp_path / "whole")
    assert isinstance(model.text, SentenceTower)
    theirs = load_file(bert / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(model.text.trunk.encoder.state_dict()[name], theirs[name])
    assert saved.model.text["encoder"]["name"] == "bert"
    codes = CheckpointEncoder(tmp_path / "whole").texts(["a red circle", "dog", "a red circle"])
    assert codes.shape == (3, 128)
    assert (codes[0] == codes[2]).all()
    assert (codes[0] != codes[1]).any()


def test_cached_gradients_equal_whole_batches(bert: Path, tmp_path: Path) -> None:
    train(recipe_over(bert), tmp_path / "whole", stop_after=4)
    train(recipe_over(bert, loop={"micro_batch": 3}), tmp_path / "cached", stop_after=4)
    assert losses(tmp_path / "cached") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


def test_nobody_goes_on_with_another_encoder(bert: Path, tmp_path: Path) -> None:
    folder, run = tmp_path / "encoder", tmp_path / "run"
    shutil.copytree(bert, folder)
    recipe = recipe_over(folder)
    train(recipe, run, stop_after=4)
    assert json.loads((run / "recipe.json").read_text())["model"]["text"]["encoder"]
    tensors(lambda tensors: next(iter(tensors.values())).add_(1))(folder)
    with pytest.raises(CheckpointError, match=r"model\.text\.encoder\.weights_sha256"):
        train(recipe, run)
    with pytest.raises(CheckpointError, match="another encoder than the run began with"):
        load_model(run)
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match=r"sentence_encoder: the folder: no such folder"):
        load_model(run)


def test_an_encoder_that_is_trained_moves_by_its_share(bert: Path, tmp_path: Path) -> None:
    runs = {}
    for share in (0.0, 0.25, 1.0):
        recipe = recipe_over(bert, frozen=False, optimizer={"text_trunk": share})
        train(recipe, tmp_path / str(share), stop_after=1)
        runs[share] = weights(tmp_path / str(share))
    still, slow, whole = runs.values()
    moved = [name for name in whole if not torch.equal(still[name], whole[name])]
    assert any(name.startswith("text.trunk.") for name in moved)
    assert all(name.startswith("text.trunk.") for name in moved)
    for name in moved:
        torch.testing.assert_close(
            slow[name] - still[name], (whole[name] - still[name]) / 4, rtol=1e-3, atol=1e-6
        )
    model, _ = load_model(tmp_path / "1.0")
    torch.testing.assert_close(dict(model.state_dict()), whole)


def test_over_a_pretrained_image_tower(bert: Path, tmp_path: Path) -> None:
    train(recipe_over(bert), tmp_path / "first", stop_after=3)
    recipe = recipe_over(bert, start={"checkpoint": str(tmp_path / "first")})
    train(recipe, tmp_path / "second", stop_after=1)
    assert losses(tmp_path / "second")[1] == pytest.approx(losses(tmp_path / "first")[3], rel=0.5)


def test_inspect_cuts_captions_by_its_tokenizer(bert: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(recipe_over(bert).to_dict()))))
    done = CliRunner().invoke(data, ["inspect", str(ICONS), "--recipe", str(path), "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert "splits" in report
