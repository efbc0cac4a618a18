"""The L1 penalty: its value, its effect, and the same gradients in parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import tiny_recipe
from tests.training.trainer.test_loop import losses
from training.loading.pairs import PairBatch
from training.losses.clip import ClipLoss
from training.model.sparse_clip import SparseCLIP
from training.trainer.loop import train
from training.trainer.step import TrainingStep, mean_l1
from training.trainer.trained_model import load_model

TinyStep = Callable[..., tuple[float, dict[str, torch.Tensor]]]


def step_of(model: SparseCLIP, **options: Any) -> TrainingStep:
    device = torch.device("cpu")
    values: dict[str, Any] = {"micro_batch": 0, "precision": "fp32", "device": device, **options}
    return TrainingStep(model, ClipLoss(tile=4), **values)


def tiny_step(**options: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss and the gradients of one step of the same model on the same eight pairs."""
    torch.manual_seed(0)
    model = SparseCLIP(tiny_recipe().model)
    batch = PairBatch(torch.randn(8, 3, 32, 32), torch.randint(1, 600, (8, 12)))
    result = step_of(model, **options)(batch)
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return float(result.loss), gradients


def test_it_counts_active_concepts_and_not_their_size() -> None:
    one, four = torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.full((1, 4), 0.5)
    assert float(mean_l1(one, one)) == 1.0
    assert float(mean_l1(four, four)) == 2.0
    assert float(mean_l1(one, four)) == 1.5


def test_it_is_added_to_the_loss() -> None:
    torch.manual_seed(0)
    model = SparseCLIP(tiny_recipe().model)
    batch = PairBatch(torch.randn(8, 3, 32, 32), torch.randint(1, 600, (8, 12)))
    with torch.no_grad():
        codes = [model.encode_image(batch.pixels).codes, model.encode_text(batch.tokens).codes]
        norms = [float((c.sum(1) / c.norm(dim=1)).mean()) for c in codes]
    without, _ = tiny_step()
    with_it, _ = tiny_step(l1=0.5)
    assert with_it - without == pytest.approx(0.5 * sum(norms) / 2, rel=1e-4)


def check_gradients_of_parts(tiny_step: TinyStep, option: str) -> None:
    """Cached gradients are those of the whole batch, and the option has a part in them."""
    whole_loss, whole = tiny_step(**{option: 0.5})
    cached_loss, cached = tiny_step(**{option: 0.5}, micro_batch=3)
    assert cached_loss == pytest.approx(whole_loss, rel=1e-5)
    torch.testing.assert_close(cached, whole, rtol=1e-3, atol=1e-6)
    _, without = tiny_step(micro_batch=3)
    name = "image_head.project.weight"
    assert not torch.allclose(cached[name], without[name], rtol=1e-2)


def test_cached_gradients_equal_those_of_the_whole_batch() -> None:
    check_gradients_of_parts(tiny_step, "l1")


def test_a_run_with_it_is_sparser(tmp_path: Path) -> None:
    l0 = {}
    for weight in (0.0, 1.0):
        run = tmp_path / str(weight)
        train(tiny_recipe(loop={"l1": weight, "epochs": 12}), run)
        assert len(losses(run)) > 20
        l0[weight] = float((text_codes(run) > 0).sum(1).float().mean())
    assert l0[1.0] < 0.8 * l0[0.0]


def text_codes(run: Path) -> torch.Tensor:
    """The codes of random texts."""
    torch.manual_seed(1)
    model, _ = load_model(run)
    with torch.no_grad():
        return model.encode_text(torch.randint(1, 600, (8, 12))).codes
