"""Runs whose views show two images: in parts, resumed, and with captions that say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.training.conftest import tiny_recipe
from tests.training.trainer.test_loop import losses
from training.loading.caption_numbers import caption_numbers
from training.loading.pairs import PairBatch
from training.losses.clip import ClipLoss
from training.model.sparse_clip import SparseCLIP
from training.trainer.loop import train
from training.trainer.step import TrainingStep


def test_a_run_is_the_same_in_micro_batches_and_resumed(tmp_path: Path) -> None:
    recipe = tiny_recipe(augment={"pair": 0.5})
    train(recipe, tmp_path / "whole", stop_after=6)
    train(recipe, tmp_path / "parts", stop_after=3)
    train(recipe, tmp_path / "parts", stop_after=6)
    small = tiny_recipe(augment={"pair": 0.5}, loop={"micro_batch": 3})
    train(small, tmp_path / "small", stop_after=6)
    train(tiny_recipe(), tmp_path / "without", stop_after=6)
    whole = losses(tmp_path / "whole")
    assert losses(tmp_path / "parts") == whole
    assert losses(tmp_path / "small") == pytest.approx(whole, rel=1e-4)
    assert losses(tmp_path / "without") != pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("micro_batch", [0, 3])
def test_captions_of_one_number_are_not_each_other_s_negatives(micro_batch: int) -> None:
    torch.manual_seed(0)
    model = SparseCLIP(tiny_recipe().model)
    pixels, tokens = torch.randn(8, 3, 32, 32), torch.randint(1, 600, (8, 12))
    numbers = caption_numbers(tokens)
    numbers[5] = numbers[2]
    found = []
    for captions in (None, caption_numbers(tokens), numbers):
        step = TrainingStep(
            model,
            ClipLoss(tile=4),
            micro_batch=micro_batch,
            precision="fp32",
            device=torch.device("cpu"),
            mask_equal_captions=True,
        )
        found.append(float(step(PairBatch(pixels, tokens, captions)).loss))
    assert found[0] == found[1]
    assert found[2] < found[1]


def test_a_stream_has_no_partners(tmp_path: Path) -> None:
    recipe = tiny_recipe(augment={"pair": 0.5}, data={"stream_pairs": 64})
    with pytest.raises(ValueError, match=r"^augment\.pair: wants data in memory"):
        train(recipe, tmp_path / "run")
