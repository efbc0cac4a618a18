"""The penalty on matches where a view shows its ground alone: its value, its effect, its data."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from bundle.schema import SchemaError
from tests.training.conftest import ICONS, tiny_recipe
from tests.training.trainer.test_l1 import check_gradients_of_parts, step_of
from training.core.distributed import Ranks
from training.loading.augment import AugmentConfig
from training.loading.pairs import PairBatch, PairsInMemory
from training.loading.views import FreshViews
from training.model.sparse_clip import SMALLEST_MATCH, SparseCLIP
from training.model.tokenizer import CaptionTokenizer
from training.trainer.cached_views import cached_views
from training.trainer.initial_weights import initial_model

GROUND = torch.tensor([[True, False, False, True], [False] * 4] * 4)


def batch_of_eight() -> PairBatch:
    torch.manual_seed(1)
    return PairBatch(torch.randn(8, 3, 32, 32), torch.randint(1, 600, (8, 12)), None, GROUND)


def tiny_step(**options: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss and the gradients of one step of the same model on the same eight pairs."""
    torch.manual_seed(0)
    model = SparseCLIP(tiny_recipe().model)
    result = step_of(model, **options)(batch_of_eight())
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return float(result.loss), gradients


def test_it_is_the_share_of_the_match_that_is_on_the_ground() -> None:
    torch.manual_seed(0)
    model = SparseCLIP(tiny_recipe().model)
    batch = batch_of_eight()
    with torch.no_grad():
        patches = model.encode_patches(batch.pixels)
        text = F.normalize(model.encode_text(batch.tokens).codes, dim=1)
        matches = torch.einsum("bpc,bc->bp", patches, text)
        expected = (matches * GROUND).sum(1) / (matches.sum(1) + SMALLEST_MATCH)
        found = model(batch.pixels, batch.tokens, GROUND)
        torch.testing.assert_close(found.on_ground, expected)
        torch.testing.assert_close(found.image, model.encode_image(batch.pixels).codes)
    assert (found.on_ground[1::2] == 0).all()
    assert (found.on_ground[::2] > 0).all()
    with_it, without = tiny_step(ground=0.5)[0], tiny_step()[0]
    assert with_it - without == pytest.approx(0.5 * float(expected.mean()), rel=1e-4)


def test_slices_of_concepts_give_the_same() -> None:
    torch.manual_seed(0)
    model = SparseCLIP(tiny_recipe().model)
    dense, texts = torch.randn(3, 4, model.image_head.dense_dim), torch.rand(3, 128)
    whole = model.image_head.pooled_with_matches(dense, texts)
    torch.testing.assert_close(model.image_head.pooled_with_matches(dense, texts, step=50), whole)
    torch.testing.assert_close(model.image_head.pooled_codes(dense), whole[0])


def test_cached_gradients_equal_those_of_the_whole_batch() -> None:
    check_gradients_of_parts(tiny_step, "ground")


def test_views_tell_which_patches_show_the_ground() -> None:
    config = AugmentConfig(small=1.0, small_scale=(0.4, 0.45), jpeg=0.5, erase=0.0)
    rgba = torch.full((40, 4, 16, 16), 255, dtype=torch.uint8)
    rgba[:, :3] = 0  # black squares on white
    still = AugmentConfig(**{**vars(config), "background": 0.0, "colour": 0.0, "jpeg": 0.0})
    drawn = FreshViews(rgba, 32, still, grid=(4, 4))(torch.arange(40), torch.Generator())
    assert drawn.ground is not None
    red = drawn.pixels[:, 0]
    dark = red < red.max() - 0.1
    share = F.avg_pool2d(dark.float()[:, None], 8).flatten(1)
    assert drawn.ground[share == 0].float().mean() > 0.97  # edges are soft
    assert not drawn.ground[share > 0.05].any()
    assert (share > 0.05).any()
    assert FreshViews(rgba, 32, still)(torch.arange(4), torch.Generator()).ground is None


def test_cached_views_keep_it_and_views_of_before_are_made_again(tmp_path: Path) -> None:
    icons = Path(shutil.copytree(ICONS, tmp_path / "icons"))
    sections: dict[str, Any] = {
        "data": {"path": str(icons), "cached_views": 2},
        "start": {"freeze_image": True, "unlocked_groups": 1},
        "augment": {"small": 0.5},
    }
    ranks = Ranks(rank=0, count=1, device=torch.device("cpu"))
    recipe = tiny_recipe(**sections, loop={"ground": 0.2})
    model = initial_model(recipe)
    pairs = PairsInMemory(icons, "train", CaptionTokenizer.of_size(600, 12))
    first = cached_views(pairs, model.image, recipe, ranks)
    assert first.ground is not None
    assert 0.05 < first.ground.float().mean() < 0.95
    assert cached_views(pairs, model.image, tiny_recipe(**sections), ranks).ground is None
    [file] = (icons / "views").iterdir()
    kept = load_file(file)
    save_file({"hidden": kept["hidden"]}, file)
    again = cached_views(pairs, model.image, recipe, ranks)
    assert again.ground is not None
    assert torch.equal(again.ground, first.ground)
    assert list((icons / "views").iterdir()) == [file]


def test_it_silences_the_ground_and_leaves_texts_alone() -> None:
    torch.manual_seed(0)
    model = SparseCLIP(tiny_recipe().model)
    batch = batch_of_eight()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    shares = []
    for _ in range(20):
        share = model(batch.pixels, batch.tokens, GROUND).on_ground[::2].mean()
        optimizer.zero_grad()
        share.backward()
        optimizer.step()
        shares.append(float(share.detach()))
    assert shares[-1] < 0.5 * shares[0]
    assert all(p.grad is None for p in model.text.parameters())


@pytest.mark.parametrize("model", [{"relu": False}, {"pool": "cls"}])
def test_what_has_no_matches_of_patches_is_refused(model: dict[str, object]) -> None:
    with pytest.raises(SchemaError, match=r"loop\.ground: wants model\.relu and model\.pool"):
        tiny_recipe(model=model, loop={"ground": 0.1}).check()
