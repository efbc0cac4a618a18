"""The tiled loss is open_clip's loss, value and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.core.torchvision_compat import open_clip
from training.loading.caption_numbers import caption_numbers
from training.losses.clip import tiled_clip_loss
from training.model.sparse_clip import normalize


def rows(seed: int, batch: int = 24, concepts: int = 160) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(batch, concepts, generator=generator).relu()
    text = torch.randn(batch, concepts, generator=generator).relu()
    return image.requires_grad_(), text.requires_grad_(), torch.tensor(17.0, requires_grad=True)


@pytest.mark.parametrize("tile", [5, 24, 100])
def test_value_and_gradients_equal_open_clip(tile: int) -> None:
    ours, theirs = rows(0), rows(0)
    reference = open_clip().ClipLoss()(normalize(theirs[0]), normalize(theirs[1]), theirs[2])
    loss = tiled_clip_loss(normalize(ours[0]), normalize(ours[1]), ours[2], tile=tile)
    for value in (reference, loss):
        value.backward()
    torch.testing.assert_close(loss, reference)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


CAPTIONS = torch.tensor([5, 1, 5, 2, 3, 5, *range(10, 26), 1, 2])
"""Some rows of a batch have the caption of another row, which may be on another rank."""


def masked_loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """The reference: all logits at once, without those of other rows of the same caption."""
    logits = image @ text.T * scale
    same = (CAPTIONS[:, None] == CAPTIONS[None]) & ~torch.eye(len(CAPTIONS), dtype=torch.bool)
    logits = logits.masked_fill(same, -torch.inf)
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


@pytest.mark.parametrize("tile", [5, 100])
def test_rows_of_one_caption_are_no_negatives(tile: int) -> None:
    ours, theirs = rows(0), rows(0)
    reference = masked_loss(normalize(theirs[0]), normalize(theirs[1]), theirs[2])
    loss = tiled_clip_loss(normalize(ours[0]), normalize(ours[1]), ours[2], CAPTIONS, tile=tile)
    unmasked = tiled_clip_loss(normalize(ours[0]), normalize(ours[1]), ours[2], tile=tile)
    assert loss < unmasked - 1e-3
    for value in (reference, loss):
        value.backward()
    torch.testing.assert_close(loss, reference)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_equal_tokens_have_equal_numbers_and_others_do_not() -> None:
    tokens = torch.randint(0, 60, (4096, 16), generator=torch.Generator().manual_seed(0))
    tokens[7], tokens[9] = tokens[3], tokens[3].flip(0)
    numbers = caption_numbers(tokens)
    assert numbers[7] == numbers[3]
    assert len(set(numbers.tolist())) == 4095
    assert caption_numbers(tokens[3:4]).item() == numbers[3].item()  # whatever the batch
