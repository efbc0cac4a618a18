"""Two images in one view, beside each other. b views on a rank, B in the batch, N images."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Uniform = Callable[..., Tensor]
"""`uniform(low, high, *shape)` draws (b, *shape) numbers, uniform in [low, high)."""

HALF_SIZE = (0.4, 0.5)
"""Range of the zoom of both images: the side of the image over the side of the view."""

NONE = -1
"""Stands for no image beside a view's own."""


class HalfPlace(NamedTuple):
    """Where images lie in their views, whose coordinates are in [-1, 1]."""

    zoom: Float[Tensor, " b"]
    middle: Float[Tensor, "b 2"]


def draw_partners(
    index: Int[Tensor, " B"],
    among: Int[Tensor, " M"],
    probability: float,
    generator: torch.Generator,
) -> Int[Tensor, " B"]:
    """For each of the images `index`, with a probability, one of the images `among` that will be
    beside it, else NONE. An image is not beside itself."""
    chosen = torch.rand(len(index), generator=generator) < probability
    drawn = among[torch.randint(len(among), (len(index),), generator=generator)]
    return torch.where(chosen & (drawn != index), drawn, NONE)


def draw_places(uniform: Uniform) -> tuple[HalfPlace, HalfPlace]:
    """A half of the view for one image and the other half for another: left and right, or top and
    bottom, in either order. Each lies anywhere in its half, and not over its edges."""
    is_beside = uniform(0, 1) < 0.5
    side = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    return _place(is_beside, side, uniform), _place(is_beside, -side, uniform)


def _place(is_beside: Bool[Tensor, " b"], side: Float[Tensor, " b"], uniform: Uniform) -> HalfPlace:
    zoom = uniform(*HALF_SIZE)
    within = side * 0.5 + uniform(-1, 1) * (0.5 - zoom)
    across = uniform(-1, 1) * (1 - zoom)
    middle = torch.stack([within, across], 1)
    return HalfPlace(zoom, torch.where(is_beside[:, None], middle, middle.flip(1)))
