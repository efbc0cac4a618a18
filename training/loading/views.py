"""Random views of images in memory. N images, b on a rank, R stored side, S model side."""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from bundle.ground import ground_of
from training.loading.augment import WHOLE, AugmentConfig, BatchPart, augment
from training.model.pixels import preprocessing, standardize


class Views(Protocol):
    """A source of random views, as the image tower reads them."""

    def __call__(
        self, index: Int[Tensor, " b"], generator: torch.Generator, part: BatchPart
    ) -> Tensor:
        """One view of each of the images `index`, which are one part of a batch.

        The views are those that the same images would get in the whole batch.
        """
        ...


class FreshViews:
    """Views that are made anew at each call."""

    def __init__(self, rgba: UInt8[Tensor, "N 4 R R"], size: int, config: AugmentConfig) -> None:
        self.rgba, self.size, self.config = rgba, size, config
        background = preprocessing(size).background
        images = (Image.fromarray(pixels.permute(1, 2, 0).numpy()) for pixels in rgba)
        grounds = [ground_of(image, background) for image in images]
        self.grounds = torch.tensor(grounds) / 255

    def __call__(
        self, index: Int[Tensor, " b"], generator: torch.Generator, part: BatchPart = WHOLE
    ) -> Float[Tensor, "b 3 S S"]:
        """See Views; the views are standardized pixels."""
        rgba, grounds = self.rgba[index], self.grounds[index]
        return standardize(augment(rgba, self.size, self.config, generator, part, grounds))
