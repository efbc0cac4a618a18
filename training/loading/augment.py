"""Random views of RGBA images, a batch at a time. B batch, R stored side, S model side."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

Uniform = Callable[..., Tensor]
"""`uniform(low, high, *shape)`: (B, *shape) numbers of the batch's generator."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How far a view may stray from its image."""

    scale: tuple[float, float] = (0.75, 1.15)
    """Zoom: the image's side over the view's."""
    aspect: float = 0.15
    """The sides' ratio changes by up to this share."""
    rotate: float = 15.0
    """Degrees to either side."""
    shift: float = 0.08
    """Share of the side, in x and y."""
    flip: float = 0.0
    """Probability of a mirror image; left and right are words, so none by default."""
    background: float = 0.6
    """Probability of a random colour behind transparent pixels instead of white."""
    colour: float = 0.5
    """Strength of changes in brightness, contrast, saturation and hue, in [0, 1]."""
    grey: float = 0.1
    """Probability of a grey image."""
    erase: float = 0.0
    """Probability of one rectangle of background somewhere over the image."""


def augment(
    rgba: UInt8[Tensor, "B 4 R R"],
    size: int,
    config: AugmentConfig,
    generator: torch.Generator,
    share: tuple[int, int] = (0, 1),
) -> Float[Tensor, "B 3 S S"]:
    """One random view an image, in [0, 1]. The same generator state gives the same views.

    With `share` (i, n) the images are the i-th of n equal parts of a batch, and get the views
    that they would get in the whole.
    """
    n, device = len(rgba), rgba.device
    part, parts = share

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        whole = torch.rand(n * parts, *shape, generator=generator, device=device)
        return whole[n * part : n * (part + 1)] * (high - low) + low

    plain = uniform(0, 1, 1, 1, 1) >= config.background
    background = torch.where(plain, 1.0, uniform(0, 1, 3, 1, 1))
    # The view is sampled from premultiplied colours and alpha, so that what lies outside of the
    # image is background too.
    x = rgba.float() / 255
    layers = torch.cat([x[:, :3] * x[:, 3:], x[:, 3:]], dim=1)
    grid = F.affine_grid(_affine(config, uniform), [n, 4, size, size], align_corners=False)
    while layers.shape[-1] >= 2 * size:  # against aliasing
        layers = F.avg_pool2d(layers, 2)
    layers = F.grid_sample(layers, grid, mode="bilinear", align_corners=False)
    if config.erase:
        layers = layers * _keep(config.erase, size, uniform, device)
    x = layers[:, :3] + background * (1 - layers[:, 3:])
    return _recolour(x, config, uniform).clamp(0, 1)


def _affine(config: AugmentConfig, uniform: Uniform) -> Float[Tensor, "B 2 3"]:
    u = uniform
    zoom = u(config.scale[0], config.scale[1])
    stretch = 1 + u(-config.aspect, config.aspect)
    angle = u(-config.rotate, config.rotate) * (math.pi / 180)
    mirror = torch.where(u(0, 1) < config.flip, -1.0, 1.0)
    shift = u(-2 * config.shift, 2 * config.shift, 2)
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    rows = [
        torch.stack([cos * mirror * stretch, -sin, shift[:, 0]], 1),
        torch.stack([sin * mirror, cos / stretch, shift[:, 1]], 1),
    ]
    return torch.stack(rows, 1)


def _keep(share: float, size: int, uniform: Uniform, device: torch.device) -> Tensor:
    u = uniform
    axis = torch.arange(size, device=device)
    low = u(0, 0.8 * size, 2)
    high = low + u(0.1 * size, 0.4 * size, 2)
    inside = [(axis >= low[:, i : i + 1]) & (axis < high[:, i : i + 1]) for i in range(2)]
    hole = inside[0][:, :, None] & inside[1][:, None, :]
    hole &= (u(0, 1) < share)[:, None, None]
    return (~hole)[:, None].float()


def _recolour(x: Tensor, config: AugmentConfig, uniform: Uniform) -> Tensor:
    u, c = uniform, config.colour
    luma = torch.tensor([0.299, 0.587, 0.114], device=x.device)
    # Hue is a rotation about the grey axis, saturation a blend with grey: one 3 x 3 matrix each.
    angle = u(-c, c) * (math.pi / 3)
    saturation = 1 + u(-c, c)
    saturation = torch.where(u(0, 1) < config.grey, 0.0, saturation)
    eye = torch.eye(3, device=x.device)
    third, root = torch.full((3, 3), 1 / 3, device=x.device), math.sqrt(1 / 3)
    cross = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=x.device) * root
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    hue = eye * cos + third * (1 - cos) + cross * sin
    s = saturation[:, None, None]
    matrix = (s * eye + (1 - s) * luma) @ hue
    contrast = (1 + u(-c, c) * 0.6)[:, None, None, None]
    brightness = (u(-c, c) * 0.3)[:, None, None, None]
    x = torch.einsum("nij,njhw->nihw", matrix, x)
    return (x - 0.5) * contrast + 0.5 + brightness
