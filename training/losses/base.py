"""The contract of a loss. b rows on a rank, C concepts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Loss(ABC):
    """The loss of a batch of image and text codes.

    A loss holds no tensors. It declares the scalars that it learns in `parameters`; the model owns
    them and passes them to every call. So the optimiser, the averaging over ranks, cached gradients
    and checkpoints treat them as they treat the logit scale.
    """

    parameters: ClassVar[Mapping[str, float]] = {}
    """Name -> initial value of each scalar that is learned beside the logit scale, such as SigLIP's
    bias."""

    def __init__(self, *, tile: int, gather_dtype: torch.dtype | None = None) -> None:
        """At most tile x tile logits should exist at a time. Features should travel between ranks
        as `gather_dtype`, or as they are when it is None."""
        self.tile, self.gather_dtype = tile, gather_dtype

    @abstractmethod
    def __call__(
        self,
        image: Float[Tensor, "b C"],
        text: Float[Tensor, "b C"],
        scale: Float[Tensor, ""],
        parameters: Mapping[str, Float[Tensor, ""]],
        captions: Int[Tensor, " b"] | None = None,
    ) -> Float[Tensor, ""]:
        """This rank's part of the loss. Rows have unit length, and row i of both sides is one pair.

        `captions` has a number for each row's caption, equal for equal captions on any rank. Such
        rows must not count as each other's negatives, as no model can tell their texts apart. With
        None all rows are negatives of each other.

        The mean over ranks must be the loss of the whole batch, as DistributedDataParallel averages
        the gradients.
        """
