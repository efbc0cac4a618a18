"""Runs: resumed to the same losses, stopped on NaN."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.support.paths import ROOT
from tests.training.conftest import environment, tiny_recipe
from training.core import checkpoint
from training.core.checkpoint import CheckpointError
from training.core.resume import TrainingError
from training.trainer.loop import train
from training.trainer.trained_model import load_model
from training.trainer.training_recipe import TrainingRecipe


def losses(run: Path) -> dict[int, float]:
    lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint.find_checkpoint(run) / "model.safetensors")


def command(recipe: TrainingRecipe, folder: Path, run: Path) -> list[str]:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(recipe.to_dict()))))
    return [sys.executable, "-m", "training", str(path), "--output", str(run)]


def test_learns_and_logs(tmp_path: Path) -> None:
    recipe = tiny_recipe(loop={"epochs": 12, "ema": 0.9})
    train(recipe, tmp_path)
    curve = list(losses(tmp_path).values())
    assert sum(curve[-5:]) / 5 < 0.9 * sum(curve[:3]) / 3
    line = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert {"logit_scale", "l0_image", "l0_text", "dead", "active", "samples_per_second"} <= set(
        line
    )
    assert 0 < line["l0_image"] < 128
    assert list((tmp_path / "tensorboard").iterdir())
    model, loaded = load_model(tmp_path)
    assert loaded == recipe
    assert len(checkpoint.complete_checkpoints(tmp_path)) == checkpoint.CHECKPOINTS_KEPT
    average = load_file(checkpoint.find_checkpoint(tmp_path) / "average.safetensors")
    torch.testing.assert_close(dict(model.state_dict()), average)


def test_killed_run_resumes_to_the_same_losses(tmp_path: Path) -> None:
    recipe = tiny_recipe(loop={"epochs": 4})
    train(recipe, tmp_path / "whole")
    whole = losses(tmp_path / "whole")
    run = tmp_path / "killed"
    arguments = command(recipe, tmp_path, run)
    process = subprocess.Popen(arguments, cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL)
    for _ in range(600):  # until the first checkpoint and a step more
        if len(checkpoint.complete_checkpoints(run)) and len(losses(run)) > 4:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    assert len(losses(run)) < len(whole)
    subprocess.run(arguments, cwd=ROOT, env=environment(), check=True, timeout=120,
                   capture_output=True)  # fmt: skip
    resumed = losses(run)
    assert resumed.keys() == whole.keys()
    for step, loss in whole.items():
        assert resumed[step] == pytest.approx(loss, rel=1e-5), step
    torch.testing.assert_close(weights(run), weights(tmp_path / "whole"), rtol=1e-4, atol=1e-5)


def test_half_written_checkpoint_is_ignored(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    train(recipe, tmp_path, stop_after=4)
    last = checkpoint.complete_checkpoints(tmp_path)[-1]
    draft = tmp_path / "checkpoints" / ".sparseclip-writing-ab1_cd2e" / "step-00000005"
    draft.mkdir(parents=True)
    (draft / "model.safetensors").write_bytes(b"torn")
    assert checkpoint.find_checkpoint(tmp_path) == last
    train(recipe, tmp_path)
    assert max(losses(tmp_path)) > 4
    assert not draft.exists()


def test_cached_gradients_equal_whole_batches(tmp_path: Path) -> None:
    train(tiny_recipe(), tmp_path / "whole", stop_after=4)
    train(tiny_recipe(loop={"micro_batch": 3}), tmp_path / "cached", stop_after=4)
    assert losses(tmp_path / "cached") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


def test_the_image_trunk_moves_by_its_share(tmp_path: Path) -> None:
    runs = {}
    for share in (0.0, 0.25, 1.0):
        recipe = tiny_recipe(optimizer={"image_trunk": share})
        train(recipe, tmp_path / str(share), stop_after=1)
        runs[share] = weights(tmp_path / str(share))
    still, slow, whole = runs.values()
    for name in whole:
        if name.startswith("image.trunk."):
            torch.testing.assert_close(slow[name] - still[name], (whole[name] - still[name]) / 4)
        else:
            assert torch.equal(slow[name], whole[name])
    moved = [n for n in whole if not torch.equal(still[n], whole[n])]
    assert any(name.startswith("image.trunk.") for name in moved)


def test_nan_stops_with_diagnostics(tmp_path: Path) -> None:
    recipe = tiny_recipe(optimizer={"lr": 1e30, "clip_norm": 0.0}, loop={"epochs": 9})
    with pytest.raises(TrainingError, match=r"step \d+: the loss is (nan|inf)"):
        train(recipe, tmp_path)
    report = json.loads((tmp_path / "diagnostics.json").read_text())
    assert report["bad_parameters"] or report["bad_gradients"]


def test_another_recipe_is_refused(tmp_path: Path) -> None:
    train(tiny_recipe(), tmp_path, stop_after=1)
    with pytest.raises(CheckpointError, match=r"another recipe \(other: optimizer\.lr\)"):
        train(tiny_recipe(optimizer={"lr": 0.1}), tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")  # stopped before its first one
    with pytest.raises(CheckpointError, match="another recipe"):
        train(tiny_recipe(optimizer={"lr": 0.1}), tmp_path)
    train(tiny_recipe(), tmp_path, stop_after=1)


def test_a_recipe_that_is_described_anew_is_the_same(tmp_path: Path) -> None:
    train(tiny_recipe(), tmp_path, stop_after=1)
    train(dataclasses.replace(tiny_recipe(), about="other words"), tmp_path, stop_after=2)
    assert len(losses(tmp_path)) == 2


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    for name, text in (("log.jsonl", '{"step": 1}\n'), ("recipe.json", "{}")):
        mine = tmp_path / name.partition(".")[0] / name
        mine.parent.mkdir()
        mine.write_text(text)
        with pytest.raises(CheckpointError, match="not a run: it holds 'log|of another recipe"):
            train(tiny_recipe(), mine.parent, stop_after=1)
        assert list(mine.parent.rglob("*")) == [mine]
        assert mine.read_text() == text


def test_copies_that_its_user_makes_stay(tmp_path: Path) -> None:
    """They are neither removed as old checkpoints nor gone on from."""
    recipe = tiny_recipe(loop={"epochs": 2})
    train(recipe, tmp_path, stop_after=2)
    folder = tmp_path / "checkpoints"
    copies = {"step-00000002-best", "step-best", "step-2"}
    for name in copies:
        shutil.copytree(folder / "step-00000002", folder / name)
    (folder / "step-99999999").mkdir()  # holds nothing
    train(recipe, tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert names >= copies | {"step-99999999"}
    assert len(names) == 4 + checkpoint.CHECKPOINTS_KEPT
    assert checkpoint.complete_checkpoints(tmp_path)[-1].name == f"step-{max(losses(tmp_path)):08d}"


def test_warm_start_takes_a_dense_run_s_towers(tmp_path: Path) -> None:
    dense = tiny_recipe(model={"relu": False, "width_factor": 1})
    train(dense, tmp_path / "dense", stop_after=2)
    start = {"checkpoint": str(tmp_path / "dense"), "freeze_image": True}
    train(tiny_recipe(start=start), tmp_path / "sparse", stop_after=3)
    before, after = weights(tmp_path / "dense"), weights(tmp_path / "sparse")
    frozen = [k for k in before if k.startswith("image.")]
    assert frozen
    assert all(torch.equal(before[k], after[k]) for k in frozen)
    assert not torch.equal(
        before["text.trunk.ln_final.weight"], after["text.trunk.ln_final.weight"]
    )
