"""The towers of a model of open_clip, as graphs are written of them.

B batch, T tokens, P patches, S image side, W tower width, D width of the shared space.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

_FOLDS = ("fuse", "reparameterize", "switch_to_deploy")
"""Methods of timm's blocks that train as several branches and then run as one."""


def fold_branches(model: Any) -> Any:
    """The model as its image tower is meant to run: MobileOne's blocks, of which MobileCLIP is
    made, add up parallel convolutions, which timm folds into one. The text tower and what is not
    folded share their weights with `model`, which stays as it is; a model without such blocks is
    returned itself.
    """
    if not any(hasattr(block, name) for block in model.visual.modules() for name in _FOLDS):
        return model
    from timm.models import reparameterize_model

    folded = copy.copy(model)
    folded._modules = model._modules | {"visual": reparameterize_model(model.visual)}
    return folded


class ImageEncoder(nn.Module):
    """Pixels (B, 3, S, S) to (B, D)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D"]:
        """See ImportedModel.image."""
        dense: Tensor = self.model.encode_image(pixels)
        return dense


class TextEncoder(nn.Module):
    """Token ids (B, T) to (B, D)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """See ImportedModel.text."""
        dense: Tensor = self.model.encode_text(tokens)
        return dense


class PatchEncoder(nn.Module):
    """Pixels (B, 3, S, S) to (B, D) and (B, P, D). The tower runs once for both."""

    grid: tuple[int, int]

    def forward(
        self, pixels: Float[Tensor, "B 3 S S"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B P D"]]:
        """See ImportedModel.patches."""
        raise NotImplementedError


class VisionTransformerPatches(PatchEncoder):
    """open_clip's own VisionTransformer with a class token, or with the mean of its patches.

    Each patch's token is put in place of the class token: the last norm, then the projection.
    """

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = visual
        self.grid = (int(visual.grid_size[0]), int(visual.grid_size[1]))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See PatchEncoder."""
        visual = self.visual
        tokens = visual.transformer(visual._embeds(pixels))
        pooled, _ = visual._pool(tokens)
        patches = visual.ln_post(tokens[:, 1:])
        if visual.proj is None:
            return pooled, patches
        return pooled @ visual.proj, patches @ visual.proj


class TimmTokenPatches(PatchEncoder):
    """A transformer of timm. Each patch is pooled as an image all of whose tokens are that patch.

    A class token, a mean and attention without positions then all give what the patch alone gives.
    """

    def __init__(self, visual: Any, grid: tuple[int, int]) -> None:
        super().__init__()
        self.trunk, self.head, self.grid = visual.trunk, visual.head, grid
        self.prefix = int(getattr(visual.trunk, "num_prefix_tokens", 0))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See PatchEncoder."""
        tokens = self.trunk.forward_features(pixels)
        dense = self.head(self.trunk.forward_head(tokens))
        patches = tokens[:, self.prefix :]
        count, width = self.grid[0] * self.grid[1], patches.shape[-1]
        alone = patches.reshape(-1, 1, width).expand(-1, self.prefix + 1, -1)
        pooled = self.head(self.trunk.forward_head(alone))
        return dense, pooled.reshape(-1, count, pooled.shape[-1])


class TimmMapPatches(PatchEncoder):
    """A network of timm with a feature map. Each cell is pooled as a map of that cell alone."""

    def __init__(self, visual: Any, grid: tuple[int, int], *, channels_last: bool) -> None:
        super().__init__()
        self.trunk, self.head, self.grid = visual.trunk, visual.head, grid
        self.channels_last = channels_last

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See PatchEncoder."""
        features = self.trunk.forward_features(pixels)
        dense = self.head(self.trunk.forward_head(features))
        cells = features if self.channels_last else features.permute(0, 2, 3, 1)
        width, count = cells.shape[-1], self.grid[0] * self.grid[1]
        alone = cells.reshape(-1, 1, 1, width)
        if not self.channels_last:
            alone = alone.permute(0, 3, 1, 2)
        pooled = self.head(self.trunk.forward_head(alone))
        return dense, pooled.reshape(-1, count, pooled.shape[-1])


def patch_encoder(visual: Any) -> PatchEncoder | None:
    """How the patches of an image tower are encoded; None for one whose pooling knows no patch
    alone: CLIP's ResNet, whose pooling has positions, and attention over several queries."""
    kind = type(visual).__name__
    if kind == "VisionTransformer":
        simple = visual.attn_pool is None and visual.pool_type in ("tok", "avg")
        return VisionTransformerPatches(visual) if simple else None
    if kind != "TimmModel" or "pool" in dict(visual.head.named_children()):
        return None
    pool = getattr(visual.trunk, "attn_pool", None)
    if getattr(pool, "pos_embed", None) is not None:
        return None
    with torch.no_grad():
        features = visual.trunk.forward_features(torch.zeros(1, 3, *visual.image_size))
    if features.ndim == 3:
        count = features.shape[1] - int(getattr(visual.trunk, "num_prefix_tokens", 0))
        side = math.isqrt(count)
        return TimmTokenPatches(visual, (side, side)) if side * side == count else None
    if features.ndim == 4:
        last = getattr(visual.trunk, "output_fmt", "NCHW") == "NHWC"
        rows, columns = features.shape[1:3] if last else features.shape[2:4]
        return TimmMapPatches(visual, (int(rows), int(columns)), channels_last=last)
    return None
