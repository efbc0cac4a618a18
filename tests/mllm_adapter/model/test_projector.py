"""The projector's first layer: sums over rows, products, and edits of what was summed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given

from mllm_adapter.model.projector import Cells, PatchCodes, Projector, steering
from mllm_adapter.steering.plan import SteeringBatch, SteeringError, SteeringPlan, apply_steering
from tests.mllm_adapter.steering.test_plan import C, P, codes, one, plans


def projector() -> Projector:
    torch.manual_seed(0)
    layer = Projector(C, 8)
    torch.nn.init.normal_(layer.bias)
    return layer


def test_slots_hold_the_codes() -> None:
    x = codes(3)
    patch_codes = PatchCodes.from_dense(x)
    assert patch_codes.indices.shape[2] == (x > 0).sum(-1).max()
    assert torch.equal(patch_codes.dense(C), x)


@pytest.mark.parametrize("dense", [True, False, None])
def test_both_ways_to_sum_give_the_layer(dense: bool | None) -> None:
    x, layer = codes(3), projector()
    sums = layer.sums(PatchCodes.from_dense(x), dense=dense)
    assert torch.allclose(sums, x @ layer.rows, atol=1e-5)
    assert torch.allclose(layer.tokens(sums), layer(x), atol=1e-5)


@given(a=plans, c=plans)
def test_an_edit_of_the_sum_is_the_sum_of_the_edited(a: SteeringPlan, c: SteeringPlan) -> None:
    x, layer = codes(3), projector()
    batch = SteeringBatch.from_plans([a, None, c], P)
    patch_codes = PatchCodes.from_dense(x)
    sums = layer.sums(patch_codes)
    steered = layer.steered(sums, patch_codes, batch)
    assert torch.allclose(steered, apply_steering(x, batch) @ layer.rows, atol=1e-4)
    assert torch.equal(steered[1], sums[1])


def test_a_cell_is_the_mean_of_its_patches() -> None:
    """4 x 6 patches, of which each cell has two rows and three columns."""
    torch.manual_seed(0)
    layer = Projector(C, 8, Cells(patches=(4, 6), grid=(2, 2)))
    x = torch.rand(3, 24, C)
    means = x.view(3, 2, 2, 2, 3, C).mean(dim=(2, 4)).view(3, 4, C)
    tokens = layer(x)
    assert tokens.shape == (3, 5, 8)
    torch.testing.assert_close(tokens[:, 1:], layer.project(means))
    torch.testing.assert_close(tokens[:, 0], layer.project(x.mean(1)))
    torch.testing.assert_close(layer.tokens(layer.sums(PatchCodes.from_dense(x))), tokens)


def test_cells_that_do_not_divide_share_patches() -> None:
    weights = Cells(patches=(7, 7), grid=(3, 3)).weights()
    assert weights.shape == (9, 49)
    assert torch.equal((weights > 0).sum(1), torch.full((9,), 9))
    torch.testing.assert_close(weights.sum(1), torch.ones(9))
    assert ((weights > 0).sum(0) > 0).all()


def test_no_edit_no_change() -> None:
    layer, patch_codes = projector(), PatchCodes.from_dense(codes(1))
    sums = layer.sums(patch_codes)
    assert layer.steered(sums, patch_codes, SteeringBatch.from_plans([SteeringPlan()], P)) is sums


def test_the_first_layer_learns_through_both_ways() -> None:
    x, layer = codes(2), projector()
    grads = []
    for dense in (True, False):
        layer.zero_grad()
        layer.tokens(layer.sums(PatchCodes.from_dense(x), dense=dense)).square().sum().backward()
        assert layer.rows.grad is not None
        grads.append(layer.rows.grad.clone())
    assert torch.allclose(grads[0], grads[1], atol=1e-4)


def test_unused_slots_go() -> None:
    x = codes(2)
    wide = x.topk(C, dim=-1)
    patch_codes = PatchCodes(wide.indices, wide.values).trimmed()
    assert patch_codes.indices.shape[2] < C
    assert torch.equal(patch_codes.dense(C), x)


def test_a_plan_holds_inside_its_block_only() -> None:
    x, layer = codes(3), projector()
    plan = one("SET", 2.0)
    before = layer(x)
    with steering(layer, plan):
        inside = layer(x)
    assert torch.equal(inside, layer(apply_steering(x, SteeringBatch.from_plans([plan] * 3, P))))
    assert not torch.equal(inside, before)
    assert torch.equal(layer(x), before)
    with (
        pytest.raises(SteeringError, match="patches: the model has"),
        steering(layer, one("SET", 1.0, patches=(P,))),
    ):
        layer(x)
    assert torch.equal(layer(x), before)
