"""Random views of RGBA images, a batch at a time. B batch, R stored side, S model side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from bundle.schema import Fraction
from training.loading.jpeg_artefacts import with_jpeg_artefacts
from training.loading.side_by_side import HalfPlace, Uniform, draw_places


class BatchPart(NamedTuple):
    """The part of a batch that one of several ranks processes; all parts have one size."""

    rank: int
    ranks: int

    def slice_of(self, length: int) -> slice:
        """The rows of a batch of `length` that belong to this part."""
        return slice(length * self.rank // self.ranks, length * (self.rank + 1) // self.ranks)


WHOLE = BatchPart(0, 1)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How much a view may differ from its image. The defaults suit drawings."""

    scale: tuple[float, float] = (0.75, 1.15)
    """Range of the zoom: the side of the image over the side of the view."""
    aspect: float = 0.15
    """Largest relative change of the aspect ratio."""
    rotate: float = 15.0
    """Largest rotation to either side, in degrees."""
    shift: float = 0.08
    """Largest shift in x and in y, as a fraction of the side."""
    small: Fraction = 0.0
    """Probability that a view shows its image small, somewhere on an empty ground, so that the
    patches of the ground learn to be silent."""
    small_scale: tuple[float, float] = (0.35, 0.6)
    """Range of the zoom of these views; they lie within the view as a whole."""
    pair: Fraction = 0.0
    """Probability that a view shows its image on one half, at half of its size, and another image
    on the other half. Its caption is then that of both: `A and B`."""
    flip: Fraction = 0.0
    """Probability of a mirror image. 0 by default, as captions say `left` and `right`."""
    background: Fraction = 0.6
    """Probability that transparent pixels show a random colour instead of their ground."""
    colour: Fraction = 0.5
    """Strength of the changes of brightness, contrast, saturation and hue, in [0, 1]."""
    grey: Fraction = 0.1
    """Probability of a grey image."""
    erase: Fraction = 0.0
    """Probability that a rectangle of the image shows the background."""
    jpeg: Fraction = 0.0
    """Probability that a view is written as a JPEG and read again; half a millisecond each."""
    jpeg_quality: tuple[int, int] = (30, 95)
    """Range of the quality of these JPEGs, 1 to 100."""


class Beside(NamedTuple):
    """The images that some views of a batch show beside their own."""

    is_there: Bool[Tensor, " B"]
    rgba: UInt8[Tensor, "B 4 R R"]
    """Any images where none is shown."""


class AugmentedViews(NamedTuple):
    """Random views, and how far their images cover them."""

    pixels: Float[Tensor, "B 3 S S"]
    """In [0, 1]."""
    cover: Float[Tensor, "B 1 S S"]
    """0 where a view shows its ground alone, 1 where its images hide it."""


def augment(
    rgba: UInt8[Tensor, "B 4 R R"],
    size: int,
    config: AugmentConfig,
    generator: torch.Generator,
    part: BatchPart = WHOLE,
    grounds: Float[Tensor, "B 3"] | None = None,
    beside: Beside | None = None,
) -> AugmentedViews:
    """One random view of each image. The same generator state gives the same views.

    `grounds` are the colours that serving lays the images on, in [0, 1]; white without them.

    Images that are `beside` others share their ground, and all that is done to a view as a whole.

    The images may be one part of a batch; they get the views that they would get in the whole.
    """
    n, device = len(rgba), rgba.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        # Every rank draws for the whole batch, so that a run's views do not depend on its ranks.
        batch_size = n * part.ranks
        batch = torch.rand(batch_size, *shape, generator=generator, device=device)
        return batch[part.slice_of(batch_size)] * (high - low) + low

    plain = uniform(0, 1, 1, 1, 1) >= config.background
    ground = rgba.new_ones(n, 3, dtype=torch.float32) if grounds is None else grounds
    background = torch.where(plain, ground[:, :, None, None], uniform(0, 1, 3, 1, 1))
    # Sampled are premultiplied colours and alpha: outside of the image both are 0, so that the view
    # shows the background there, too.
    if beside is None:
        layers = _sampled(rgba, _affine(config, uniform), size)
    else:
        is_there, (own, other) = beside.is_there, draw_places(uniform)
        layers = _sampled(rgba, _affine(config, uniform, own, is_there), size)
        there = _sampled(beside.rgba, _affine(config, uniform, other, is_there), size)
        there = there * is_there[:, None, None, None]
        layers = layers + there * (1 - layers[:, 3:])  # where they overlap, the own one is above
    if config.erase:
        layers = layers * _erased(config.erase, size, uniform, device)
    x = layers[:, :3] + background * (1 - layers[:, 3:])
    x = _recolour(x, config, uniform).clamp(0, 1)
    if config.jpeg:
        low, high = config.jpeg_quality
        chosen, halved = uniform(0, 1) < config.jpeg, uniform(0, 1) < 0.5
        x = with_jpeg_artefacts(x, chosen, uniform(low, high + 1).floor(), halved)
    return AugmentedViews(x, layers[:, 3:])


def _sampled(rgba: Tensor, affine: Tensor, size: int) -> Float[Tensor, "B 4 S S"]:
    x = rgba.float() / 255
    layers = torch.cat([x[:, :3] * x[:, 3:], x[:, 3:]], dim=1)
    grid = F.affine_grid(affine, [len(rgba), 4, size, size], align_corners=False)
    while layers.shape[-1] >= 2 * size:  # halves the image first, against aliasing
        layers = F.avg_pool2d(layers, 2)
    return F.grid_sample(layers, grid, mode="bilinear", align_corners=False)


def _affine(
    config: AugmentConfig,
    uniform: Uniform,
    place: HalfPlace | None = None,
    is_placed: Bool[Tensor, " B"] | None = None,
) -> Float[Tensor, "B 2 3"]:
    """Maps from view to image coordinates, both in [-1, 1]. Those of `is_placed` lie at their
    `place`."""
    u = uniform
    zoom = u(config.scale[0], config.scale[1])
    stretch = 1 + u(-config.aspect, config.aspect)
    angle = u(-config.rotate, config.rotate) * (math.pi / 180)
    mirror = torch.where(u(0, 1) < config.flip, -1.0, 1.0)
    shift = u(-2 * config.shift, 2 * config.shift, 2)
    middle = None
    moves = torch.zeros(len(zoom), dtype=torch.bool, device=zoom.device)
    if config.small:  # drawn on demand: the views of older recipes stay as they are
        moves = u(0, 1) < config.small
        zoom = torch.where(moves, u(*config.small_scale), zoom)
        # The image's middle, in view coordinates: anywhere where all of the image is in the view.
        middle = u(-1, 1, 2) * (1 - zoom)[:, None]
    if place is not None and is_placed is not None:
        zoom = torch.where(is_placed, place.zoom, zoom)
        before = place.middle if middle is None else middle
        middle, moves = torch.where(is_placed[:, None], place.middle, before), moves | is_placed
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    x = torch.stack([cos * mirror * stretch, -sin], 1)
    y = torch.stack([sin * mirror, cos / stretch], 1)
    linear = torch.stack([x, y], 1)
    if middle is not None:
        moved = -(linear @ middle[:, :, None])[:, :, 0]
        shift = torch.where(moves[:, None], moved, shift)
    return torch.cat([linear, shift[:, :, None]], 2)


def _erased(probability: float, size: int, uniform: Uniform, device: torch.device) -> Tensor:
    """(B, 1, S, S): 0 in the rectangle that is erased, 1 elsewhere."""
    u = uniform
    axis = torch.arange(size, device=device)
    low = u(0, 0.8 * size, 2)
    high = low + u(0.1 * size, 0.4 * size, 2)
    inside = [(axis >= low[:, i : i + 1]) & (axis < high[:, i : i + 1]) for i in range(2)]
    hole = inside[0][:, :, None] & inside[1][:, None, :]
    hole &= (u(0, 1) < probability)[:, None, None]
    return (~hole)[:, None].float()


def _recolour(x: Tensor, config: AugmentConfig, uniform: Uniform) -> Tensor:
    u, c = uniform, config.colour
    luma = torch.tensor([0.299, 0.587, 0.114], device=x.device)
    # One 3 x 3 matrix per image: hue is a rotation about the grey axis, saturation a blend with
    # grey.
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
