"""Random views of images in memory. N images, b of a rank, R stored side, S model side."""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from training.loading.augment import AugmentConfig, augment
from training.model.pixels import standardize


class Views(Protocol):
    """Random views of images, as the image tower reads them."""

    def __call__(
        self, index: Int[Tensor, " b"], generator: torch.Generator, share: tuple[int, int]
    ) -> Tensor:
        """One view each of the images `index`, which are part i of n of a batch, `share` being
        (i, n): they get the views that they would get in the whole."""
        ...


class FreshViews:
    """A new view of an image each time."""

    def __init__(self, rgba: UInt8[Tensor, "N 4 R R"], size: int, config: AugmentConfig) -> None:
        self.rgba, self.size, self.config = rgba, size, config

    def __call__(
        self, index: Int[Tensor, " b"], generator: torch.Generator, share: tuple[int, int] = (0, 1)
    ) -> Float[Tensor, "b 3 S S"]:
        """Standardized pixels."""
        return standardize(augment(self.rgba[index], self.size, self.config, generator, share))
