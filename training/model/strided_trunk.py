"""A timm network with a finer grid of patches than its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OUTPUT_STRIDE = "output_stride"
"""Our own value in `model.vision`: pixels of a patch's side. 16 instead of a network's 32 gives
four times as many patches with the same weights, by dilation (arXiv 1606.00915, section 3.1)."""

STRIDES = (8, 16, 32)
"""Those that timm's networks know."""


def strided_trunk(name: str | None, stride: object) -> nn.Module:
    """A timm network without its classifier, whose last feature map has a cell for each `stride`
    pixels a side. Raises ValueError for a network or a stride that timm does not know."""
    import timm

    field = f"model.vision.{OUTPUT_STRIDE}"
    if name is None:
        raise ValueError(f"{field}: wants model.vision.timm_model_name")
    if stride not in STRIDES:
        raise ValueError(f"{field}: must be one of {', '.join(map(str, STRIDES))}")
    try:
        trunk: nn.Module = timm.create_model(
            name, num_classes=0, global_pool="", output_stride=stride
        )
    except (TypeError, NotImplementedError, AssertionError):
        raise ValueError(f"{field}: {name} has a fixed one") from None
    for module in trunk.modules():
        if type(module) is nn.Conv2d and _is_dilated_depthwise(module):
            module.__class__ = PhasedConv2d
    return trunk


class PhasedConv2d(nn.Conv2d):
    """A dilated depthwise convolution that learns as fast as one without dilation.

    With a dilation of d, positions whose coordinates differ by no multiple of d never meet. So the
    map falls into d x d maps, the phases, which an ordinary convolution takes as images of their
    own. On a CPU the backward pass of the dilated operator takes seven times as long.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, W, rows, columns) to maps of the same shape."""
        if not torch.is_grad_enabled() or torch.compiler.is_exporting():
            return super().forward(x)
        d = self.dilation[0]
        batch, width, rows, columns = x.shape
        # Channels last, as the layers around it have them on a CPU.
        maps = x.permute(0, 2, 3, 1)
        # Zeros at the end are what the convolution's own padding is there.
        maps = F.pad(maps, (0, 0, 0, -columns % d, 0, -rows % d))
        high, wide = maps.shape[1] // d, maps.shape[2] // d
        phases = maps.reshape(batch, high, d, wide, d, width).permute(0, 2, 4, 1, 3, 5)
        phases = phases.reshape(batch * d * d, high, wide, width).permute(0, 3, 1, 2)
        padding = [side // 2 for side in self.kernel_size]
        out = F.conv2d(phases, self.weight, self.bias, 1, padding, 1, self.groups)
        out = out.permute(0, 2, 3, 1).reshape(batch, d, d, high, wide, width)
        out = out.permute(0, 3, 1, 4, 2, 5).reshape(batch, high * d, wide * d, width)
        return out[:, :rows, :columns].contiguous().permute(0, 3, 1, 2)


def _is_dilated_depthwise(conv: nn.Conv2d) -> bool:
    d = conv.dilation[0]
    kept = tuple(d * (side - 1) // 2 for side in conv.kernel_size)
    return (
        d > 1
        and conv.dilation == (d, d)
        and conv.stride == (1, 1)
        and conv.groups == conv.in_channels
        and conv.padding == kept
    )
