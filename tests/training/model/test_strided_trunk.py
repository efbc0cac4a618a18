"""Dilated convolutions that are computed phase by phase: the same results and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.core.torchvision_compat import open_clip
from training.model.strided_trunk import PhasedConv2d, strided_trunk


@pytest.mark.parametrize(("rows", "columns"), [(7, 7), (6, 5), (1, 3)])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("dilation", [2, 4])
def test_phases_give_what_the_operator_gives(
    rows: int, columns: int, kernel: int, dilation: int
) -> None:
    torch.manual_seed(0)
    padding = dilation * (kernel - 1) // 2
    conv = nn.Conv2d(6, 6, kernel, padding=padding, dilation=dilation, groups=6)
    phased = nn.Conv2d(6, 6, kernel, padding=padding, dilation=dilation, groups=6)
    phased.load_state_dict(conv.state_dict())
    phased.__class__ = PhasedConv2d
    inputs = [torch.randn(2, 6, rows, columns) for _ in range(2)]
    inputs[1] = inputs[0].clone()
    results = []
    for module, x in zip((conv, phased), inputs, strict=True):
        out = module(x.requires_grad_())
        (out * torch.linspace(0, 1, out.numel()).view_as(out)).sum().backward()
        results.append([out.detach(), x.grad, module.weight.grad, module.bias.grad])
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(phased(inputs[1]), results[0][0])


def test_a_strided_trunk_has_them() -> None:
    open_clip()
    trunk = strided_trunk("tf_efficientnet_lite0", 16)
    phased = [name for name, module in trunk.named_modules() if isinstance(module, PhasedConv2d)]
    assert "blocks.6.0.conv_dw" in phased
    assert all(".conv_dw" in name for name in phased)
