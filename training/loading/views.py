"""Random views of images in memory. N images, b on a rank, R stored side, S model side."""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from training.loading.augment import WHOLE, AugmentConfig, BatchPart, augment
from training.model.pixels import standardize


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

    def __call__(
        self, index: Int[Tensor, " b"], generator: torch.Generator, part: BatchPart = WHOLE
    ) -> Float[Tensor, "b 3 S S"]:
        """See Views; the views are standardized pixels."""
        return standardize(augment(self.rgba[index], self.size, self.config, generator, part))
