"""Three ranks do what one process does: the loss and its gradients, and whole runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tests.support.paths import ROOT
from tests.support.tiny_encoders import write_encoder
from tests.training.conftest import environment, tiny_recipe
from tests.training.losses.test_clip import masked_loss, rows
from tests.training.losses.test_own_parameters import BIAS, PairwiseLoss
from tests.training.trainer.test_loop import losses, weights
from training.core.torchvision_compat import open_clip
from training.model.sparse_clip import normalize
from training.trainer.loop import train

RANKS = 3
LOOP: dict[str, object] = {"epochs": 1, "batch_size": 4 * RANKS}
LOOPS = {
    "whole": LOOP,
    "cached": {**LOOP, "micro_batch": 2},
    "pairwise": {**LOOP, "micro_batch": 2, "loss": "pairwise"},
}
"""What is changed in the recipe of each run. `pairwise` is in the table of losses on the ranks."""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """A text tower over a frozen sentence encoder."""
    folder = write_encoder(tmp_path_factory.mktemp("encoders") / "bert")
    return {"sentence_encoder": str(folder), "hidden": 32, "context_length": 12}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, text: dict[str, object]) -> Path:
    """The folder that the ranks wrote to."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    for name, loop in {**LOOPS, "sentence": LOOPS["cached"]}.items():
        recipe = json.loads(json.dumps(tiny_recipe().to_dict()))
        recipe["loop"].update(loop)
        if name == "sentence":
            recipe["model"]["text"] = text
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--nproc-per-node", str(RANKS), "-m", "tests.training.core.rank_program"]
    done = subprocess.run(
        [*launcher, str(folder)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[:2000]
    return folder


@pytest.mark.parametrize("kind", ["plain", "masked"])
def test_the_loss_agrees_with_one_process(results: Path, kind: str) -> None:
    result = json.loads((results / f"{kind}.json").read_text())
    image, text, scale = rows(0)
    reference = masked_loss if kind == "masked" else open_clip().ClipLoss()
    loss = reference(normalize(image), normalize(text), scale)
    loss.backward()
    torch.testing.assert_close(torch.tensor(result["loss"]), loss.detach())
    torch.testing.assert_close(torch.tensor(result["scale"]), scale.grad)
    torch.testing.assert_close(torch.tensor(result["image"]), image.grad)
    torch.testing.assert_close(torch.tensor(result["text"]), text.grad)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    run: Path = tmp_path_factory.mktemp("alone")
    train(tiny_recipe(loop=LOOP), run)
    return run


def test_a_run_over_a_sentence_encoder_agrees_with_one_process(
    results: Path, text: dict[str, object], tmp_path: Path
) -> None:
    train(tiny_recipe(loop=LOOP, model={"text": text}), tmp_path)
    assert losses(results / "sentence") == pytest.approx(losses(tmp_path), rel=1e-4)
    torch.testing.assert_close(
        weights(results / "sentence"), weights(tmp_path), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("name", ["whole", "cached"])
def test_a_run_agrees_with_one_process(results: Path, alone: Path, name: str) -> None:
    assert losses(results / name) == pytest.approx(losses(alone), rel=1e-4)
    torch.testing.assert_close(weights(results / name), weights(alone), rtol=1e-3, atol=1e-4)


def test_ranks_learn_one_value(results: Path) -> None:
    """Each rank's rows are a third of the batch, so the mean of their gradients moves the bias."""
    assert weights(results / "pairwise")[BIAS] != PairwiseLoss.parameters["bias"]
