"""Random views of images in memory. N images, b on a rank, R stored side, S model side."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int, UInt8
from PIL import Image
from torch import Tensor

from bundle.ground import ground_of
from training.loading.augment import WHOLE, AugmentConfig, BatchPart, Beside, augment
from training.loading.side_by_side import draw_partners
from training.model.pixels import preprocessing, standardize

COVERED_FROM = 0.02
"""The share of a patch that its image must cover, or the patch shows the ground."""


class DrawnViews(NamedTuple):
    """Views, and what they show beside their own images."""

    pixels: Tensor
    """(b, ...), as the image tower reads them."""
    partners: Int[Tensor, " b"] | None = None
    """The image that each view shows beside its own, or NONE of side_by_side.py; None where no view
    has one."""
    ground: Bool[Tensor, "b P"] | None = None
    """The patches that show nothing but the view's ground; None where nobody asked for them."""


class Views(Protocol):
    """A source of random views, as the image tower reads them."""

    def __call__(
        self, index: Int[Tensor, " B"], generator: torch.Generator, part: BatchPart
    ) -> DrawnViews:
        """One view of each image of a part of the batch `index`, the same as in the whole."""
        ...


class FreshViews:
    """Views that are made anew at each call."""

    def __init__(
        self,
        rgba: UInt8[Tensor, "N 4 R R"],
        size: int,
        config: AugmentConfig,
        grid: tuple[int, int] | None = None,
    ) -> None:
        """With the `grid` of a model's patches, views tell which of them show the ground alone."""
        self.rgba, self.size, self.config, self.grid = rgba, size, config, grid
        background = preprocessing(size).background
        images = (Image.fromarray(pixels.permute(1, 2, 0).numpy()) for pixels in rgba)
        grounds = [ground_of(image, background) for image in images]
        self.grounds = torch.tensor(grounds) / 255

    def __call__(
        self, index: Int[Tensor, " B"], generator: torch.Generator, part: BatchPart = WHOLE
    ) -> DrawnViews:
        """See Views; the views are standardized pixels, and partners are of the same batch."""
        rows, partners = part.slice_of(len(index)), None
        if self.config.pair:  # drawn on demand: the views of other recipes stay as they are
            # Drawn for the whole batch, so that a run's views do not depend on its ranks.
            partners = draw_partners(index, index, self.config.pair, generator)[rows]
        return self.views(index[rows], partners, generator, part)

    def views(
        self,
        index: Int[Tensor, " b"],
        partners: Int[Tensor, " b"] | None,
        generator: torch.Generator,
        part: BatchPart = WHOLE,
    ) -> DrawnViews:
        """One view of each of the images `index`, which are a part of a batch, with given
        partners."""
        rgba, grounds = self.rgba[index], self.grounds[index]
        beside = None if partners is None else Beside(partners >= 0, self.rgba[partners])
        views = augment(rgba, self.size, self.config, generator, part, grounds, beside)
        ground = None
        if self.grid is not None:
            ground = F.adaptive_avg_pool2d(views.cover, self.grid).flatten(1) < COVERED_FROM
        return DrawnViews(standardize(views.pixels), partners, ground)
