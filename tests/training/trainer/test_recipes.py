"""Every recipe of the project builds its model and makes a step."""

from __future__ import annotations

import pytest
import torch

from bundle.schema import SchemaError
from training.loading.pairs import PairBatch
from training.losses.clip import ClipLoss
from training.model.sparse_clip import SparseCLIP
from training.trainer.recipe import TrainingRecipe
from training.trainer.step import TrainingStep


def test_the_recipes_are_there() -> None:
    assert TrainingRecipe.names() == [
        "demo",
        "paper_large",
        "paper_large_plus",
        "paper_small",
        "warm_start",
    ]


@pytest.mark.parametrize(
    ("name", "concepts", "cap"),
    [
        ("paper_small", 16_384, 100.0),
        ("paper_large", 55_296, 50.0),
        ("paper_large_plus", 55_296, 40.0),
    ],
)
def test_the_paper_s_figures(name: str, concepts: int, cap: float) -> None:
    model = TrainingRecipe.load(name).model
    assert model.concepts == concepts
    assert model.logit_scale_cap == cap


@pytest.mark.parametrize("name", TrainingRecipe.names())
def test_builds_and_steps(name: str) -> None:
    """At full width and depth, two pairs a batch."""
    recipe = TrainingRecipe.load(name)
    model = SparseCLIP(recipe.model)  # warm_start's towers, random: no hub in a test
    side, text = model.image.image_size, model.text
    batch = PairBatch(
        torch.randn(2, 3, side, side),
        torch.randint(1, text.vocabulary, (2, text.context_length)),
    )
    loss = ClipLoss(tile=1)
    step = TrainingStep(model, loss, micro_batch=1, precision="fp32", device=torch.device("cpu"))
    if name == "demo":  # batch statistics want more than one
        step.micro_batch = 0
    result = step(batch)
    assert torch.isfinite(result.loss)
    assert result.fired.shape == (recipe.model.concepts,)
    missing = [n for n, p in model.named_parameters() if p.grad is None]
    unused = {"image.trunk.class_embedding"} if recipe.model.pool == "patch_mean" else set()
    assert set(missing) <= unused


def test_a_recipe_survives_its_own_dict() -> None:
    recipe = TrainingRecipe.load("demo", ["loop.epochs=2", "model.pool=cls"])
    assert recipe.loop.epochs == 2
    assert recipe.model.pool == "cls"
    assert TrainingRecipe.parse(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loop.epoch=2", r"loop\.epoch: unknown key; did you mean epochs"),
        ("model.pool=mean", r"model\.pool: must be one of cls, patch_mean"),
        ("loop.batch_size=many", r"loop\.batch_size: must be int"),
        ("loop.batch_size=0", r"loop\.batch_size: must be greater than 0"),
        ("loop.loss=clop", r"loop\.loss: .*'clop' is none of clip; did you mean clip"),
        ("loop.epochs=.inf", r"loop\.epochs: must be greater than 0"),
        ("optimizer.lr=.nan", r"optimizer\.lr: must be greater than 0"),
        ("optimizer.image_trunk=-0.1", r"optimizer\.image_trunk: must be 0 or more"),
        ("data.cached_views=-1", r"data\.cached_views: must be 0 or more"),
        ("start.unlocked_groups=-1", r"start\.unlocked_groups: must be 0 or more"),
        ("augment.grey=1.5", r"augment\.grey: must be 0 to 1"),
        ("loop", "an override is section.key=value"),
        ("name.x=1", "name holds no keys"),
    ],
)
def test_mistakes_name_their_field(override: str, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        TrainingRecipe.load("demo", [override])


def test_unknown_recipe_names_the_known() -> None:
    with pytest.raises(SchemaError, match="there are demo, paper_large"):
        TrainingRecipe.load("demos")
