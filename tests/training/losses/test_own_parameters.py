"""A loss that learns something beside the logit scale, as SigLIP does its bias: added by its file
and its line in the table, and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bundle.plugins import Plugin
from bundle.store import open_bundle
from tests.support.tiny_model import export_tiny, graphs_from, tiny_model
from tests.training.conftest import tiny_recipe
from tests.training.trainer.test_loop import losses, weights
from training.bundling import bundle_writer
from training.bundling.bundle_writer import load_weights
from training.losses import LOSSES
from training.losses.base import Loss
from training.trainer.loop import train
from training.trainer.trained_model import load_model

BIAS = "loss_parameters.bias"


class PairwiseLoss(Loss):
    """The sigmoid loss of each pair on this rank (arXiv 2303.15343, without other ranks' texts)."""

    parameters = {"bias": -3.0}

    def __call__(
        self,
        image: Tensor,
        text: Tensor,
        scale: Tensor,
        parameters: Mapping[str, Tensor],
        captions: Tensor | None = None,
    ) -> Tensor:
        logits = (image @ text.T) * scale + parameters["bias"]
        return F.binary_cross_entropy_with_logits(logits, torch.eye(len(image)))


@pytest.fixture(autouse=True)
def _pairwise(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = Plugin("tests.training.losses.test_own_parameters:PairwiseLoss")
    monkeypatch.setitem(LOSSES.table, "pairwise", plugin)


def test_it_is_learned_the_same_whole_and_with_cached_gradients(tmp_path: Path) -> None:
    for name, micro_batch in (("whole", 0), ("cached", 3)):
        recipe = tiny_recipe(loop={"loss": "pairwise", "micro_batch": micro_batch, "ema": 0.9})
        train(recipe, tmp_path / name)
    whole, cached = weights(tmp_path / "whole"), weights(tmp_path / "cached")
    assert whole[BIAS] != PairwiseLoss.parameters["bias"]
    assert losses(tmp_path / "cached") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)
    torch.testing.assert_close(cached, whole, rtol=1e-3, atol=1e-4)


def test_it_resumes_with_the_rest(tmp_path: Path) -> None:
    recipe = tiny_recipe(loop={"loss": "pairwise"})
    train(recipe, tmp_path / "whole")
    train(recipe, tmp_path / "parts", stop_after=4)
    train(recipe, tmp_path / "parts")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert torch.equal(weights(tmp_path / "parts")[BIAS], weights(tmp_path / "whole")[BIAS])


def test_a_bundle_leaves_it_out_and_another_run_may_start_from_it(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tiny_recipe(loop={"loss": "pairwise"}), tmp_path / "run", stop_after=1)
    model, recipe = load_model(tmp_path / "run")
    assert recipe.loop.loss == "pairwise"
    assert set(model.loss_parameters) == {"bias"}
    start = {"checkpoint": str(tmp_path / "run")}
    train(tiny_recipe(start=start), tmp_path / "next", stop_after=1)
    assert BIAS not in weights(tmp_path / "next")
    trained = tiny_model()
    trained.loss_parameters["bias"] = nn.Parameter(torch.tensor(-3.0))
    monkeypatch.setattr(bundle_writer, "write_graphs", graphs_from(tiny_bundle))
    bundle = open_bundle(export_tiny(tmp_path / "models", model=trained))
    assert set(load_weights(bundle).loss_parameters) == set()
