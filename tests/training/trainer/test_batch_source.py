"""The batches of a run: the same from any step on, and each rank's part of them."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from tests.training.conftest import tiny_recipe
from training.core.distributed import Ranks
from training.trainer.batch_source import BatchSource
from training.trainer.initial_weights import initial_model
from training.trainer.training_recipe import TrainingRecipe

CPU = torch.device("cpu")


def source(recipe: TrainingRecipe, rank: int = 0, ranks: int = 1) -> BatchSource:
    return BatchSource(recipe, initial_model(recipe), Ranks(rank=rank, count=ranks, device=CPU))


def test_a_run_has_its_epochs_steps_and_resumes_anywhere() -> None:
    recipe = tiny_recipe(loop={"epochs": 2.5})
    batches = source(recipe)
    assert (batches.steps_per_epoch, batches.steps) == (4, 10)  # 38 images, 8 in a batch
    from_start = list(islice(batches.batches(0), 7))
    for a, b in zip(from_start[5:], islice(batches.batches(5), 2), strict=True):
        assert torch.equal(a.pixels, b.pixels)
        assert torch.equal(a.tokens, b.tokens)


def test_ranks_have_the_parts_of_one_batch() -> None:
    recipe = tiny_recipe()
    whole = next(source(recipe).batches(3))
    parts = [next(source(recipe, rank, 2).batches(3)) for rank in range(2)]
    assert torch.equal(whole.pixels, torch.cat([part.pixels for part in parts]))
    assert torch.equal(whole.tokens, torch.cat([part.tokens for part in parts]))


def test_a_batch_that_no_epoch_fills_is_refused() -> None:
    with pytest.raises(ValueError, match=r"loop\.batch_size: an epoch has 38 pairs only"):
        source(tiny_recipe(loop={"batch_size": 64}))
