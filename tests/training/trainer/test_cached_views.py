"""Views that went through the frozen layers once: the same features, the same run resumed."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import training.trainer.cached_views
from tests.training.conftest import ICONS, tiny_recipe
from tests.training.trainer.test_initial_weights import trunk_recipe
from training.core.distributed import Ranks
from training.loading.augment import BatchPart
from training.loading.pairs import PairsInMemory
from training.model.tokenizer import CaptionTokenizer
from training.trainer.cached_views import CachedViews, _cache_key, cached_views, view_counts
from training.trainer.initial_weights import initial_model
from training.trainer.loop import train
from training.trainer.training_recipe import TrainingRecipe

ONE = Ranks(rank=0, count=1, device=torch.device("cpu"))


@pytest.fixture
def icons(tmp_path: Path) -> Path:
    """The icons in a folder of the test's own, as views are kept beside the data."""
    return Path(shutil.copytree(ICONS, tmp_path / "icons"))


def cached_recipe(icons: Path, **sections: dict[str, object]) -> TrainingRecipe:
    data = {"path": str(icons), "cached_views": 3}
    start = {"freeze_image": True, "unlocked_groups": 1}
    return tiny_recipe(**{"data": data, "start": start, **sections})


@pytest.mark.parametrize("unlocked", [0, 1])
@pytest.mark.parametrize("kind", ["timm", "vit"])
def test_the_tower_goes_on_from_what_was_frozen(kind: str, unlocked: int) -> None:
    start = {"freeze_image": True, "unlocked_groups": unlocked}
    recipe = trunk_recipe(start=start) if kind == "timm" else tiny_recipe(start=start)
    tower = initial_model(recipe).image.train()
    before = {k: v.clone() for k, v in tower.state_dict().items()}
    pixels = torch.randn(4, 3, tower.image_size, tower.image_size)
    hidden = tower.frozen(pixels)
    assert all(torch.equal(v, before[k]) for k, v in tower.state_dict().items())
    assert tower.training
    whole = tower(pixels)
    tower.reads_frozen = True
    for a, b in zip(tower(hidden), whole, strict=True):
        assert torch.equal(a, b)
        assert a.requires_grad == bool(unlocked)


def test_a_image_has_views_by_its_style_s_weight() -> None:
    pairs = PairsInMemory(ICONS, "train", CaptionTokenizer.of_size(600, 12))
    rare, common = sorted({m["style"] for m in pairs.meta})[:2]
    counts = view_counts(pairs, 12, {rare: 0.2, common: 3.0})
    for style, count in ((rare, 3), (common, 12)):
        mine = torch.tensor([m["style"] == style for m in pairs.meta])
        assert set(counts[mine].tolist()) == {count}


def test_a_part_of_a_batch_has_the_whole_s_views() -> None:
    views = CachedViews(torch.arange(10)[:, None], torch.tensor([1, 4, 5]))
    index = torch.tensor([2, 1, 0, 2, 1, 1])
    whole = views(index, torch.Generator().manual_seed(1)).pixels
    owner = torch.tensor([0, *[1] * 4, *[2] * 5])
    assert torch.equal(owner[whole[:, 0]], index)
    halves = [
        views(index, torch.Generator().manual_seed(1), BatchPart(i, 2)).pixels for i in range(2)
    ]
    assert torch.equal(torch.cat(halves), whole)
    drawn = views(torch.full((200,), 2), torch.Generator().manual_seed(1)).pixels
    assert set(drawn[:, 0].tolist()) == {5, 6, 7, 8, 9}


def test_runs_share_views_and_resume(icons: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = cached_recipe(icons)
    train(recipe, icons / "whole", stop_after=6)
    [kept] = (icons / "views").iterdir()
    monkeypatch.delattr(training.trainer.cached_views, "_compute")  # kept: not computed again
    train(recipe, icons / "parts", stop_after=3)
    train(recipe, icons / "parts", stop_after=6)
    logs = [(icons / run / "log.jsonl").read_text().splitlines() for run in ("whole", "parts")]
    losses = [[json.loads(line)["loss"] for line in log] for log in logs]
    assert len(losses[0]) == 6
    assert losses[0] == losses[1]
    with pytest.raises(NameError):  # another augmentation has other views
        train(cached_recipe(icons, augment={"rotate": 1.0}), icons / "other", stop_after=1)
    assert [kept] == list((icons / "views").iterdir())


def test_views_are_random_and_of_their_image(icons: Path) -> None:
    recipe = cached_recipe(icons)
    model = initial_model(recipe)
    pairs = PairsInMemory(icons, "train", CaptionTokenizer.of_size(600, 12))
    views = cached_views(pairs, model.image, recipe, ONE)
    assert len(views.hidden) == 3 * len(pairs)
    assert not torch.equal(views.hidden[0], views.hidden[1])
    plain = {"scale": [1.0, 1.0], "aspect": 0, "rotate": 0, "shift": 0, "background": 0}
    still = cached_recipe(icons, augment={**plain, "colour": 0, "grey": 0})
    views = cached_views(pairs, model.image, still, ONE)
    assert views.partners is None
    last = views.hidden[-3:]
    torch.testing.assert_close(last[0], last[2])
    assert not torch.allclose(last[0], views.hidden[0])


def test_another_grid_has_views_of_its_own(icons: Path) -> None:
    start = {"freeze_image": True, "unlocked_groups": 1}
    data = {"path": str(icons), "cached_views": 1}
    coarse = trunk_recipe(data=data, start=start)
    vision = {**coarse.model.vision, "output_stride": 16}
    fine = replace(coarse, model=replace(coarse.model, vision=vision))
    shapes = []
    for recipe in (coarse, fine):
        tower = initial_model(recipe).image
        pairs = PairsInMemory(icons, "train", CaptionTokenizer.of_size(600, 12))
        shapes.append(cached_views(pairs, tower, recipe, ONE).hidden.shape[2:])
    assert shapes == [(2, 2), (4, 4)]


def test_the_image_beside_a_view_is_kept_with_it(icons: Path) -> None:
    recipe = cached_recipe(icons, augment={"pair": 0.5})
    model = initial_model(recipe)
    tokenizer = CaptionTokenizer.of_size(600, 12)
    pairs = PairsInMemory(icons, "train", tokenizer)
    first, again = (cached_views(pairs, model.image, recipe, ONE) for _ in range(2))
    assert first.partners is not None
    assert again.partners is not None
    assert torch.equal(first.partners, again.partners)
    owner = torch.repeat_interleave(torch.arange(len(pairs)), first.counts)
    paired = first.partners >= 0
    assert 0.3 < paired.float().mean() < 0.7
    assert (first.partners != owner).all()
    # The views without a partner are others than those of the recipe without pairs, but of the same
    # image; a batch gives each view with its own partner, and captions follow.
    index = torch.arange(len(pairs)).repeat(4)
    drawn = first(index, torch.Generator().manual_seed(5))
    assert drawn.partners is not None
    for image, hidden, partner in zip(index, drawn.pixels, drawn.partners, strict=True):
        [view] = [
            v for v in range(3 * int(image), 3 * int(image) + 3) if first.hidden[v].equal(hidden)
        ]
        assert first.partners[view] == partner
    batch = pairs.batch(index, first, 1.0, torch.Generator().manual_seed(5))
    assert batch.captions is not None


def test_a_recipe_without_pairs_has_the_views_that_it_had(icons: Path) -> None:
    """Their key, and all that they are drawn from."""
    recipe = cached_recipe(icons)
    tower = initial_model(recipe).image
    settings = asdict(recipe.augment)
    assert _cache_key(tower, recipe) == _cache_key(tower, cached_recipe(icons, augment={"pair": 0}))
    assert _cache_key(tower, recipe) != _cache_key(tower, cached_recipe(icons, augment={"pair": 1}))
    assert settings["pair"] == 0
    pairs = PairsInMemory(icons, "train", CaptionTokenizer.of_size(600, 12))
    cached_views(pairs, tower, recipe, ONE)
    [path] = (icons / "views").iterdir()
    assert set(load_file(path)) == {"hidden", "ground"}


@pytest.mark.parametrize(
    ("sections", "error"),
    [
        ({"start": {}}, r"data\.cached_views: wants start\.freeze_image"),
        (
            {"data": {"cached_views": 2, "stream_pairs": 99}},
            r"data\.cached_views: .* data in memory",
        ),
        (
            {"start": {"freeze_image": True, "unlocked_groups": 2}},
            r"data\.cached_views: no block of the image tower is frozen",
        ),
    ],
)
def test_what_cannot_be_cached_is_refused(
    tmp_path: Path, icons: Path, sections: dict[str, dict[str, object]], error: str
) -> None:
    with pytest.raises(ValueError, match=error):
        train(cached_recipe(icons, **sections), tmp_path / "run")
