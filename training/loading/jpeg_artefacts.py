"""Views as they are after a JPEG: a model must name the same concepts in both. B batch, S side."""

from __future__ import annotations

import io

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor


def with_jpeg_artefacts(
    views: Float[Tensor, "B 3 S S"],
    chosen: Bool[Tensor, " B"],
    quality: Float[Tensor, " B"],
    halved: Bool[Tensor, " B"],
) -> Float[Tensor, "B 3 S S"]:
    """The views, in [0, 1], with those that are `chosen` written as JPEG and read again.

    `quality` is JPEG's, from 1 to 100. `halved` stores colours at half the resolution, as cameras
    and most programs do.
    """
    result = views.clone()
    for i in chosen.nonzero()[:, 0].tolist():
        levels = (views[i].permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy()
        file = io.BytesIO()
        subsampling = "4:2:0" if halved[i] else "4:4:4"
        Image.fromarray(levels).save(file, "JPEG", quality=int(quality[i]), subsampling=subsampling)
        with Image.open(file) as image:
            pixels = torch.from_numpy(np.array(image)).to(views.device)
        result[i] = pixels.permute(2, 0, 1).float() / 255
    return result
