"""The contract of a loss. b rows on a rank, C concepts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor


class Loss(ABC):
    """A batch of image and text codes to one number.

    A loss holds no tensors. What it learns is declared in `parameters`; the model owns those
    scalars, so that the optimiser, the averages over ranks and the checkpoints have them as they
    have the logit scale, and hands them to every call.
    """

    parameters: ClassVar[Mapping[str, float]] = {}
    """Scalars that are learned beside the logit scale, such as SigLIP's bias, and what each starts
    at."""

    def __init__(self, *, tile: int, gather_dtype: torch.dtype | None = None) -> None:
        """`tile` is how many rows and columns of logits exist at a time. Features travel between
        ranks as `gather_dtype`, or as they are when it is None."""
        self.tile, self.gather_dtype = tile, gather_dtype

    @abstractmethod
    def __call__(
        self,
        image: Float[Tensor, "b C"],
        text: Float[Tensor, "b C"],
        scale: Float[Tensor, ""],
        parameters: Mapping[str, Float[Tensor, ""]],
    ) -> Float[Tensor, ""]:
        """This rank's part of the loss, for rows of unit length; row i of both sides is one pair.

        The mean over ranks must be the loss of the whole batch: DistributedDataParallel averages
        the gradients.
        """
