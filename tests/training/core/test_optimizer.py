"""Which parameters decay and at which rate they learn, and the schedule of that rate."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.core.optimizer import (
    OptimizerConfig,
    build_optimizer,
    learning_rate,
    set_learning_rate,
)


class TwoTowers(nn.Module):
    """Parameters under the names that a SparseCLIP has."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Module()
        self.image.trunk = nn.Linear(3, 4)
        self.image.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 5)
        self.positional_embedding = nn.Parameter(torch.zeros(2, 4))
        self.log_scale = nn.Parameter(torch.tensor(1.0))
        self.frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)


def groups(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    """Parameter -> its weight decay and learning rate."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group["weight_decay"], group["lr"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def test_matrices_decay_and_the_trunk_learns_at_its_fraction() -> None:
    model = TwoTowers()
    config = OptimizerConfig(weight_decay=0.2, image_trunk=0.25)
    optimizer = build_optimizer(model, config, without=["head.weight"])
    set_learning_rate(optimizer, 0.4)
    assert groups(model, optimizer) == {
        "image.trunk.weight": (0.2, 0.1),
        "image.trunk.bias": (0.0, 0.1),
        "image.norm.weight": (0.0, 0.4),
        "image.norm.bias": (0.0, 0.4),
        "head.bias": (0.0, 0.4),
        "positional_embedding": (0.0, 0.4),
        "log_scale": (0.0, 0.4),
    }


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    config = OptimizerConfig(lr=1.0, warmup=0.1)
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[-1] < 1e-3
    assert learning_rate(0, 1, config) == 1.0  # a run of one step has no room to warm up
