"""Two images in one view: where they lie, which they are, and what the view's caption says."""

from __future__ import annotations

import logging
from itertools import islice

import pytest
import torch

from tests.training.conftest import ICONS
from training.loading.augment import AugmentConfig, BatchPart, Beside, augment
from training.loading.caption_numbers import caption_numbers, joined_numbers
from training.loading.pairs import PairsConfig, PairsInMemory
from training.loading.side_by_side import NONE, draw_partners
from training.loading.views import FreshViews
from training.model.pixels import standardize
from training.model.tokenizer import CaptionTokenizer

PLAIN = {"scale": (1, 1), "aspect": 0, "rotate": 0, "shift": 0, "colour": 0, "grey": 0}
STILL = AugmentConfig(**PLAIN, background=0)  # type: ignore[arg-type]
RED, BLUE = (255, 0, 0, 255), (0, 0, 255, 255)
S = 64


@pytest.fixture(scope="module")
def pairs() -> PairsInMemory:
    return PairsInMemory(ICONS, "train", CaptionTokenizer.of_size(600, 24))


def flat(colour: tuple[int, ...], count: int) -> torch.Tensor:
    return torch.tensor(colour, dtype=torch.uint8)[None, :, None, None].repeat(count, 1, 32, 32)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_each_image_is_whole_in_a_half_of_its_own() -> None:
    is_there = torch.arange(200) % 2 == 0
    beside = Beside(is_there, flat(BLUE, 200))
    views = augment(flat(RED, 200), S, STILL, seeded(), beside=beside).pixels
    assert torch.equal(views[~is_there], augment(flat(RED, 100), S, STILL, seeded()).pixels)
    views = views[is_there]
    # On white, red lacks green and blue, and blue lacks red and green.
    masks = torch.stack([views[:, 2] < 0.5, views[:, 0] < 0.5], 1)
    share = masks.float().mean(dim=(2, 3))
    assert ((share > 0.38**2) & (share < 0.52**2)).all()
    halves = torch.stack(
        [
            masks[..., : S // 2].any(-1).any(-1),
            masks[..., S // 2 :].any(-1).any(-1),
            masks[..., : S // 2, :].any(-1).any(-1),
            masks[..., S // 2 :, :].any(-1).any(-1),
        ],
        2,
    )
    own, other = halves[:, 0], halves[:, 1]
    beside_each_other = (own[:, :2].sum(1) == 1) & (own[:, :2] != other[:, :2]).all(1)
    over_each_other = (own[:, 2:].sum(1) == 1) & (own[:, 2:] != other[:, 2:]).all(1)
    assert (beside_each_other | over_each_other).all()
    for is_one in (beside_each_other & own[:, 0], beside_each_other & own[:, 1]):
        assert is_one.sum() > 10
    for is_one in (over_each_other & own[:, 2], over_each_other & own[:, 3]):
        assert is_one.sum() > 10


def test_transparent_pixels_of_both_show_one_ground() -> None:
    disc = flat(RED, 8)
    disc[:, 3, :8] = 0
    ground = torch.full((8, 3), 0.5)
    nothing = flat((0, 0, 0, 0), 8)
    beside = Beside(torch.ones(8, dtype=torch.bool), nothing)
    views = augment(disc, S, STILL, seeded(), grounds=ground, beside=beside).pixels
    assert torch.allclose(views[:, 1].amax(dim=(1, 2)), torch.tensor(0.5), atol=1e-6)


def test_partners_are_others_of_the_batch() -> None:
    index = torch.tensor([4, 7, 7, 9] * 100)
    partners = draw_partners(index, index, 0.5, seeded())
    assert set(partners.tolist()) == {NONE, 4, 7, 9}
    assert (partners != index).all()
    assert 0.25 < (partners >= 0).float().mean() < 0.5  # some drew themselves
    assert (draw_partners(index, index, 0.0, seeded()) == NONE).all()


def test_a_view_without_a_partner_is_what_it_was(pairs: PairsInMemory) -> None:
    index = torch.arange(12)
    views = FreshViews(pairs.rgba, 16, AugmentConfig())
    drawn = views(index, seeded())
    assert drawn.partners is None
    grounds = views.grounds[index]
    plain = augment(pairs.rgba[index], 16, AugmentConfig(), seeded(), grounds=grounds).pixels
    assert torch.equal(drawn.pixels, standardize(plain))
    assert pairs.batch(index, views, 0.5, seeded()).captions is None


def test_captions_name_both_images(pairs: PairsInMemory) -> None:
    index = torch.arange(len(pairs))
    views = FreshViews(pairs.rgba, 16, AugmentConfig(pair=0.5))
    batch = pairs.batch(index, views, 0.0, seeded())  # others than the first, where one is alone
    partners = views(index, drawn_as_in_batch(len(index))).partners
    assert partners is not None
    assert batch.captions is not None
    names = [str(meta["captions"][0]) for meta in pairs.meta]
    beside = [(i, p) for i, p in enumerate(partners.tolist()) if p != NONE]
    assert len(beside) > len(names) / 4
    tokens, _ = CaptionTokenizer.of_size(600, 24)([f"{names[i]} and {names[p]}" for i, p in beside])
    assert torch.equal(batch.tokens[[i for i, _ in beside]], tokens)
    alone = partners == NONE
    without = pairs.batch(index, FreshViews(pairs.rgba, 16, AugmentConfig()), 0.0, seeded())
    assert torch.equal(batch.tokens[alone], without.tokens[alone])


def drawn_as_in_batch(count: int) -> torch.Generator:
    """A generator as it is after a batch has drawn its captions."""
    generator = seeded()
    torch.rand(count, 2, generator=generator)
    return generator


def test_a_rank_s_part_is_that_of_the_whole(pairs: PairsInMemory) -> None:
    views = FreshViews(pairs.rgba, 16, AugmentConfig(pair=0.5, small=0.3, jpeg=0.3), grid=(2, 2))
    whole = pairs.batches(0, 8, 3, PairsConfig(), views)
    parts = [pairs.batches(0, 8, 3, PairsConfig(), views, part=BatchPart(i, 2)) for i in range(2)]
    for batch, first, second in islice(zip(whole, *parts, strict=True), 3):
        for all_rows, *halves in zip(batch, first, second, strict=True):
            assert all_rows is not None
            assert torch.equal(all_rows, torch.cat(halves))


def test_equal_captions_have_equal_numbers_in_either_order() -> None:
    tokens = torch.randint(1, 600, (50, 12))
    one, other = caption_numbers(tokens), caption_numbers(tokens.flip(0))
    joined = joined_numbers(one, other)
    assert torch.equal(joined, joined_numbers(other, one))
    assert len({*one.tolist(), *joined[:25].tolist()}) == 75
    assert len(set(joined_numbers(one, one).tolist())) == 50  # `A and A` of each is its own


def test_captions_that_become_too_long_are_told(caplog: pytest.LogCaptureFixture) -> None:
    short = PairsInMemory(ICONS, "train", CaptionTokenizer.of_size(600, 4))
    views = FreshViews(short.rgba, 16, AugmentConfig(pair=1.0))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            short.batch(torch.arange(8), views, 0.5, seeded())
    assert caplog.text.count("some captions of two images are cut at 4 tokens") == 1
