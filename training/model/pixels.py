"""The pixels that an image tower reads. B batch, S image side."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bundle.manifest import Preprocessing

MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Mean of CLIP's training pixels in [0, 1]: red, green, blue."""
STD = (0.26862954, 0.26130258, 0.27577711)
"""Their standard deviation."""


def preprocessing(size: int) -> Preprocessing:
    """The preprocessing of evaluation and of a bundle, for images of `size` pixels a side."""
    return Preprocessing(size=size, mean=MEAN, std=STD)


def standardize(pixels: Float[Tensor, "*B 3 S S"]) -> Float[Tensor, "*B 3 S S"]:
    """Pixels in [0, 1] to CLIP's mean and deviation."""
    mean = torch.tensor(MEAN, device=pixels.device)[:, None, None]
    return (pixels - mean) / torch.tensor(STD, device=pixels.device)[:, None, None]
