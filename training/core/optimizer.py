"""AdamW with linear warm-up and a cosine to zero, as open_clip trains."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimiser and its schedule."""

    lr: float = 5e-4
    """Peak learning rate."""
    image_trunk: float = 1.0
    """The image trunk's share of `lr`: a pretrained one keeps more of what it knows at less."""
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = 0.2
    """On matrices only; not on norms, biases, embeddings of positions, or the logit scale."""
    warmup: float = 0.07
    """Share of all steps. open_clip's 10,000 steps would be most of a short run."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm; 0 leaves them."""


def build_optimizer(
    model: nn.Module, config: OptimizerConfig, without: Collection[str] = ()
) -> torch.optim.AdamW:
    """AdamW over the parameters that want gradients, in groups: decayed or not, and by the `share`
    of the learning rate that is theirs. Those named in `without` are another optimiser's."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or name in without:
            continue
        plain = parameter.ndim < 2 or "positional" in name or "class_embedding" in name
        share = config.image_trunk if name.startswith("image.trunk.") else 1.0
        groups.setdefault((0.0 if plain else config.weight_decay, share), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "weight_decay": decay, "share": s} for (decay, s), p in groups.items()],
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
    )


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """The rate of a step counted from 0, of `steps` in all."""
    warmup = max(1, round(config.warmup * steps))
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * progress))
