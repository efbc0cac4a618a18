"""Rows of unit length, and the gradient by rows that have no length."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from training.losses.clip import tiled_clip_loss
from training.model.sparse_clip import normalize
from training.model.sparse_head import SparseHead


def ordinary(seed: int = 0, rows: int = 24) -> Tensor:
    return torch.randn(rows, 64, generator=torch.Generator().manual_seed(seed)).relu()


def gradients(features: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient by the features of each row, and by the weights, of a head with rep_relu."""
    torch.manual_seed(1)
    head = SparseHead(16, 16, 64, kind="replaced", relu=True, rep_relu=True, bias=-0.5).train()
    features = features.clone().requires_grad_()
    text = normalize(ordinary(2))
    tiled_clip_loss(normalize(head.codes(features)), text, torch.tensor(12.0)).backward()
    assert features.grad is not None
    assert head.project.weight.grad is not None
    return features.grad, head.project.weight.grad


def test_a_zero_row_takes_part_in_the_step_and_does_not_take_it_over() -> None:
    features = torch.randn(24, 16, generator=torch.Generator().manual_seed(0))
    before, step = gradients(features)
    features[5] = 0.0  # every code of this row is relu(-0.5) = 0
    after, disturbed = gradients(features)
    lengths = after.norm(dim=1)
    others = torch.arange(24) != 5
    assert lengths[5] > 0
    assert lengths[5] < 20 * lengths[others].mean()  # without the bound: a million times
    assert F.cosine_similarity(step.flatten(), disturbed.flatten(), dim=0) > 0.5


def test_ordinary_rows_are_bit_identical_to_plain_normalization() -> None:
    plain, ours = ordinary().requires_grad_(), ordinary().requires_grad_()
    weights = torch.randn(24, 64)
    (F.normalize(plain, dim=-1, eps=1e-6) * weights).sum().backward()
    result = normalize(ours)
    (result * weights).sum().backward()
    assert torch.equal(result, F.normalize(plain, dim=-1, eps=1e-6))
    assert plain.grad is not None
    assert ours.grad is not None
    assert torch.equal(ours.grad, plain.grad)


def test_a_batch_of_zero_rows_stays_finite() -> None:
    codes = torch.zeros(8, 64, requires_grad=True)
    rows = normalize(codes)
    assert torch.equal(rows, torch.zeros(8, 64))
    rows.sum().backward()
    assert codes.grad is not None
    assert 0 < codes.grad.abs().max() <= 1.0
