"""A timm network with a finer grid of patches than its own."""

from __future__ import annotations

from torch import nn

OUTPUT_STRIDE = "output_stride"
"""Our own value in `model.vision`: pixels of a patch's side. 16 instead of a network's 32 gives
four times as many patches with the same weights, by dilation (arXiv 1606.00915, section 3.1)."""


def strided_trunk(name: str | None, stride: object) -> nn.Module:
    """A timm network without its classifier, whose last feature map has a cell for each `stride`
    pixels a side. Raises ValueError for a network or a stride that timm does not know."""
    import timm

    field = f"model.vision.{OUTPUT_STRIDE}"
    if name is None:
        raise ValueError(f"{field}: wants model.vision.timm_model_name")
    if stride not in (8, 16, 32):
        raise ValueError(f"{field}: must be 8, 16 or 32")
    try:
        trunk: nn.Module = timm.create_model(
            name, num_classes=0, global_pool="", output_stride=stride
        )
    except (TypeError, NotImplementedError, AssertionError):
        raise ValueError(f"{field}: {name} has a fixed one") from None
    return trunk
