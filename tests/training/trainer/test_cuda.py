"""Training on a CUDA device: the losses of a CPU, exact resume, a bf16 step. `make test-gpu`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.training.conftest import tiny_recipe
from tests.training.trainer.test_loop import losses
from training.losses.clip import tiled_clip_loss
from training.trainer.loop import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_losses_are_those_of_a_cpu(tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        train(tiny_recipe(loop={"device": device}), tmp_path / device)
    cpu, cuda = losses(tmp_path / "cpu"), losses(tmp_path / "cuda")
    assert cuda.keys() == cpu.keys()
    assert list(cuda.values()) == pytest.approx(list(cpu.values()), rel=1e-3)


def test_a_stopped_run_has_the_same_losses(tmp_path: Path) -> None:
    recipe = tiny_recipe(loop={"device": "cuda"})
    train(recipe, tmp_path / "whole")
    train(recipe, tmp_path / "parts", stop_after=4)
    train(recipe, tmp_path / "parts")
    whole, parts = losses(tmp_path / "whole"), losses(tmp_path / "parts")
    assert list(parts.values()) == pytest.approx(list(whole.values()), rel=1e-4)


def test_bf16_learns(tmp_path: Path) -> None:
    train(tiny_recipe(loop={"device": "cuda", "precision": "bf16", "epochs": 12}), tmp_path)
    curve = list(losses(tmp_path).values())
    assert sum(curve[-5:]) / 5 < 0.9 * sum(curve[:3]) / 3


def test_the_tiled_loss_holds_a_tile_at_a_time() -> None:
    generator = torch.Generator(device="cuda").manual_seed(0)
    image, text = (
        torch.nn.functional.normalize(
            torch.randn(4096, 256, device="cuda", generator=generator), dim=-1
        ).requires_grad_()
        for _ in range(2)
    )
    scale = torch.tensor(15.0, device="cuda")
    peaks = {}
    for tile in (512, 4096):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        tiled_clip_loss(image, text, scale, tile=tile).backward()
        peaks[tile] = torch.cuda.max_memory_allocated() - before
    assert peaks[512] < peaks[4096] / 4
