"""AdamW with linear warm-up and cosine decay to zero, as open_clip trains."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import nn

from bundle.schema import Fraction, NonNegativeFloat, PositiveFloat


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimiser and its schedule."""

    lr: PositiveFloat = 5e-4
    """Peak learning rate."""
    image_trunk: NonNegativeFloat = 1.0
    """The image trunk's learning rate as a fraction of `lr`. A pretrained trunk forgets less at a
    lower rate."""
    text_trunk: NonNegativeFloat = 1.0
    """The same for the text tower's transformer, such as a sentence encoder that is trained."""
    betas: tuple[float, float] = (0.9, 0.98)
    eps: PositiveFloat = 1e-6
    weight_decay: NonNegativeFloat = 0.2
    """Applied to matrices only, not to norms, biases, position embeddings or the logit scale."""
    warmup: Fraction = 0.07
    """Fraction of all steps. open_clip's 10,000 steps would be most of a short run."""
    clip_norm: NonNegativeFloat = 1.0
    """Gradients with a larger norm are scaled down to this norm; 0 leaves them as they are."""


def build_optimizer(
    model: nn.Module, config: OptimizerConfig, without: Collection[str] = ()
) -> torch.optim.AdamW:
    """AdamW over the parameters that learn, except those named in `without`.

    Parameters are grouped by weight decay and by `lr_scale`, the group's learning rate as a
    fraction of the schedule's: see set_learning_rate.
    """
    scales = {"image.trunk.": config.image_trunk, "text.trunk.": config.text_trunk}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or name in without:
            continue
        undecayed = parameter.ndim < 2 or "position" in name or "class_embedding" in name
        decay = 0.0 if undecayed else config.weight_decay
        lr_scale = next((s for start, s in scales.items() if name.startswith(start)), 1.0)
        groups.setdefault((decay, lr_scale), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": decay, "lr_scale": lr_scale}
            for (decay, lr_scale), parameters in groups.items()
        ],
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
    )


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """The learning rate of a step, counted from 0, of `steps` in all."""
    warmup = max(1, round(config.warmup * steps))
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of each parameter group to `lr` times the group's `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
