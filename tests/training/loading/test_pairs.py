"""Pairs in memory: epochs by weight, views that repeat, backgrounds behind transparency."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from bundle.preprocessor import Preprocessor
from tests.training.conftest import ICONS
from training.loading.augment import AugmentConfig, BatchPart, augment
from training.loading.pairs import PairsConfig, PairsInMemory
from training.loading.views import FreshViews
from training.model.pixels import preprocessing
from training.model.tokenizer import CaptionTokenizer


@pytest.fixture(scope="module")
def pairs() -> PairsInMemory:
    return PairsInMemory(ICONS, "train", CaptionTokenizer.of_size(600, 12))


def test_captions_that_are_cut_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = CaptionTokenizer.of_size(600, 12)
    pairs = PairsInMemory(ICONS, "train", tokenizer)
    captions = [caption for meta in pairs.meta for caption in meta["captions"]]
    cut = sum(tokenizer.tokenize(caption).tokens > 12 for caption in captions)
    assert 0 < cut < len(captions)
    assert f"{cut} of {len(captions)} captions are cut at 12 tokens" in caplog.text


def fresh(pairs: PairsInMemory) -> FreshViews:
    return FreshViews(pairs.rgba, 16, AugmentConfig())


def test_an_epoch_follows_the_weights(pairs: PairsInMemory) -> None:
    styles = [m["style"] for m in pairs.meta]
    style = max(set(styles), key=styles.count)
    count = styles.count(style)
    epoch = pairs.epoch({style: 2.5}, seed=1, epoch=0)
    assert len(epoch) == pairs.epoch_size({style: 2.5})
    shown = torch.bincount(epoch, minlength=len(pairs))
    mine = torch.tensor([s == style for s in styles])
    assert shown[mine].sum() == round(2.5 * count)
    assert set(shown[mine].tolist()) == {2, 3}
    assert set(shown[~mine].tolist()) == {1}
    assert not torch.equal(epoch, pairs.epoch({style: 2.5}, seed=1, epoch=1))


def test_batches_start_anywhere(pairs: PairsInMemory) -> None:
    def batches(start: int):  # type: ignore[no-untyped-def]
        return pairs.batches(start, 8, 3, PairsConfig(), fresh(pairs))

    whole = list(islice(batches(0), 12))
    for a, b in zip(whole[6:], islice(batches(6), 6), strict=False):
        assert torch.equal(a.pixels, b.pixels)
        assert torch.equal(a.tokens, b.tokens)


def test_a_rank_s_part_is_that_of_the_whole(pairs: PairsInMemory) -> None:
    whole = pairs.batches(0, 8, 3, PairsConfig(), fresh(pairs))
    parts = [
        pairs.batches(0, 8, 3, PairsConfig(), fresh(pairs), part=BatchPart(i, 2)) for i in range(2)
    ]
    for batch, first, second in islice(zip(whole, *parts, strict=True), 3):
        assert torch.equal(batch.pixels, torch.cat([first.pixels, second.pixels]))
        assert torch.equal(batch.tokens, torch.cat([first.tokens, second.tokens]))


def test_tokens_are_captions_of_their_own_image(pairs: PairsInMemory) -> None:
    encode = CaptionTokenizer.of_size(600, 12)
    index = torch.arange(len(pairs)).repeat(4)
    batch = pairs.batch(index, fresh(pairs), 0.5, torch.Generator().manual_seed(0))
    seen = set()
    for i, tokens in zip(index.tolist(), batch.tokens, strict=True):
        known = encode(pairs.meta[i]["captions"]).ids
        match = (known == tokens).all(dim=1).nonzero()[:, 0]
        assert len(match)
        seen.add(int(match[0]))
    assert len(seen) > 1  # the first caption, and others


STILL = AugmentConfig(scale=(1, 1), aspect=0, rotate=0, shift=0, colour=0, grey=0, background=0)


def test_a_part_of_the_views_are_jpegs_and_the_seed_says_which() -> None:
    rgba = torch.randint(0, 256, (12, 4, 32, 32), dtype=torch.uint8)
    config = AugmentConfig(**{**vars(STILL), "jpeg": 0.5})
    plain = augment(rgba, 32, STILL, torch.Generator().manual_seed(3)).pixels
    views = augment(rgba, 32, config, torch.Generator().manual_seed(3)).pixels
    same = torch.tensor([bool(torch.equal(a, b)) for a, b in zip(plain, views, strict=True)])
    assert 0 < same.sum() < 12
    assert 0.01 < (views - plain)[~same].abs().mean() < 0.5  # noise is what a JPEG keeps worst
    again = augment(rgba, 32, config, torch.Generator().manual_seed(3)).pixels
    assert torch.equal(views, again)
    parts = [
        augment(rgba[6 * rank : 6 * rank + 6], 32, config, generator, BatchPart(rank, 2)).pixels
        for rank in range(2)
        for generator in [torch.Generator().manual_seed(3)]
    ]
    assert torch.equal(torch.cat(parts), views)


def test_small_views_show_all_of_their_image_somewhere_on_the_ground() -> None:
    rgba = torch.zeros(64, 4, 32, 32, dtype=torch.uint8)
    rgba[:, 3] = 255  # black squares on white
    config = AugmentConfig(**{**vars(STILL), "small": 0.5, "small_scale": (0.4, 0.5)})
    views = augment(rgba, 64, config, torch.Generator().manual_seed(0)).pixels
    share = (1 - views[:, 0]).mean(dim=(1, 2))
    small = share < 0.9
    assert 16 < small.sum() < 48
    assert (share[~small] > 0.98).all()
    assert ((share[small] > 0.38**2) & (share[small] < 0.52**2)).all()  # none is cut
    columns = (1 - views[small, 0]).sum(dim=1)
    middle = (columns * torch.arange(64)).sum(dim=1) / columns.sum(dim=1)
    assert middle.min() < 20
    assert middle.max() > 44


def test_views_of_recipes_without_small_ones_stay_as_they_were() -> None:
    rgba = torch.randint(0, 256, (4, 4, 32, 32), dtype=torch.uint8)
    views = augment(rgba, 16, AugmentConfig(), torch.Generator().manual_seed(0)).pixels
    unused = AugmentConfig(small_scale=(0.1, 0.2))
    assert torch.equal(views, augment(rgba, 16, unused, torch.Generator().manual_seed(0)).pixels)


def test_an_image_in_memory_lies_on_the_ground_that_serving_lays_it_on() -> None:
    disc = torch.zeros(1, 32, 32, dtype=torch.uint8)
    disc[:, 8:24, 8:24] = 255
    icons = [
        torch.cat([torch.full((3, 32, 32), level, dtype=torch.uint8), disc]) for level in (255, 0)
    ]
    views = FreshViews(torch.stack(icons), 32, STILL)
    pixels = views(torch.arange(2), torch.Generator().manual_seed(0)).pixels
    serve = Preprocessor(preprocessing(32))
    for icon, view in zip(icons, pixels, strict=True):
        image = Image.fromarray(icon.permute(1, 2, 0).numpy())
        np.testing.assert_allclose(view, serve(image), atol=1e-5)


def test_transparent_pixels_show_the_background() -> None:
    rgba = torch.zeros(64, 4, 32, 32, dtype=torch.uint8)
    white = augment(rgba, 16, STILL, torch.Generator().manual_seed(0)).pixels
    assert torch.equal(white, torch.ones(64, 3, 16, 16))
    coloured = AugmentConfig(**{**vars(STILL), "background": 1.0})
    views = augment(rgba, 16, coloured, torch.Generator().manual_seed(0)).pixels
    assert views.flatten(2).std(dim=2).max() < 1e-6  # plain
    assert views.mean(dim=(2, 3)).std(dim=0).min() > 0.2  # and each its own
