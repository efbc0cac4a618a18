"""open_clip towers without their projections. B batch, P patches, T tokens, W tower width."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class ImageFeatures(NamedTuple):
    """The output of an image tower, after its last LayerNorm."""

    pooled: Float[Tensor, "B W"]
    patches: Float[Tensor, "B P W"]


class ImageTower(nn.Module):
    """A VisionTransformer or timm trunk of open_clip, without its projection.

    The pooled vector is a transformer's class token; for a trunk without one it is the mean of the
    last feature map. A LayerNorm is added to timm trunks, as they share no last norm.
    """

    width: int
    grid: tuple[int, int]

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.trunk: Any = visual
        self.is_vit = type(visual).__name__ == "VisionTransformer"
        if self.is_vit:
            if visual.attn_pool is not None or visual.final_ln_after_pool:
                raise ValueError("model.vision: attentional pooling has no patch codes to read")
            visual.proj = None
            self.width = int(visual.ln_post.normalized_shape[0])
            self.grid = (int(visual.grid_size[0]), int(visual.grid_size[1]))
            self.norm: Any = nn.Identity()
        elif type(visual).__name__ == "TimmModel":
            visual.head = nn.Identity()
            visual.trunk.prune_intermediate_layers(1, prune_norm=True, prune_head=True)
            size = visual.image_size
            with torch.no_grad():
                shape = self._map(torch.zeros(2, 3, *size)).shape
            self.width, self.grid = int(shape[1]), (int(shape[2]), int(shape[3]))
            self.norm = nn.LayerNorm(self.width)
        else:
            raise ValueError("model.vision: must be a VisionTransformer or a timm trunk")
        self.image_size = _square(visual.image_size)
        self.reads_frozen = False
        """Whether `forward` takes the output of `frozen` instead of pixels."""

    def forward(self, pixels: Float[Tensor, "B 3 S S"]) -> ImageFeatures:
        """Pixels (or the output of `frozen`, see `reads_frozen`) to features."""
        if self.reads_frozen:
            return self._rest(pixels)
        if self.is_vit:
            out = self.trunk.forward_intermediates(
                pixels,
                indices=1,
                normalize_intermediates=True,
                intermediates_only=True,
                output_fmt="NLC",
                output_extra_tokens=True,
            )
            patches = out["image_intermediates"][0]
            return ImageFeatures(out["image_intermediates_prefix"][0][:, 0], patches)
        return self._features(self._map(pixels))

    def _features(self, feature_map: Float[Tensor, "B W rows columns"]) -> ImageFeatures:
        patches = self.norm(feature_map.flatten(2).transpose(1, 2))
        return ImageFeatures(patches.mean(dim=1), patches)

    @torch.no_grad()
    def frozen(self, pixels: Float[Tensor, "B 3 S S"]) -> Tensor:
        """Pixels to the output of the last block before the first one that learns.

        It is a feature map, or a transformer's tokens (B, 1 + P, W), from which `forward` can
        continue. Raises ValueError for a tower that cannot be cut there.
        """
        if not self.is_vit:
            return self.frozen_map(pixels)
        outputs: list[Tensor] = []
        block = self._blocks()[self._cut() - 1]
        hook = block.register_forward_hook(lambda _block, _inputs, output: outputs.append(output))
        try:
            self._map(pixels)
        finally:
            hook.remove()
        return outputs[0]

    def frozen_map(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B W rows columns"]:
        """What `frozen` does for a convolutional trunk, layer by layer, so that it can be exported.
        Raises ValueError as `frozen` does."""
        blocks = self._blocks()[: self._cut()]
        trunk = self.trunk.trunk
        hidden: Tensor = trunk.bn1(trunk.conv_stem(pixels))
        for block in blocks:
            hidden = block(hidden)
        return hidden

    def _rest(self, hidden: Tensor) -> ImageFeatures:
        for block in self._blocks()[self._cut() :]:
            hidden = block(hidden)
        if self.is_vit:
            tokens = self.trunk.ln_post(hidden)
            return ImageFeatures(tokens[:, 0], tokens[:, 1:])
        return self._features(hidden)

    def _blocks(self) -> list[nn.Module]:
        if self.is_vit:
            return list(self.trunk.transformer.resblocks)
        trunk = self.trunk.trunk
        if not hasattr(trunk, "conv_stem"):
            raise ValueError("data.cached_views: wants a ViT of open_clip or an EfficientNet")
        return [block for stage in trunk.blocks for block in stage]

    def _cut(self) -> int:
        """The number of blocks before the first one that learns."""
        blocks = self._blocks()
        for i, block in enumerate(blocks):
            if any(weight.requires_grad for weight in block.parameters()):
                if i == 0:
                    raise ValueError("data.cached_views: no block of the image tower is frozen")
                return i
        return len(blocks)

    def load_trunk_weights(self, weights: dict[str, Tensor]) -> None:
        """Copies a timm trunk's weights from a dictionary in the same order, under any names.
        Weights that come after those of the trunk, such as a classifier's, are left out.

        Raises ValueError when they are another network's.
        """
        current = self.trunk.trunk.state_dict()
        names = list(zip(current, weights, strict=False))
        misfit = any(current[name].shape != weights[given].shape for name, given in names)
        if misfit or len(names) < len(current):
            raise ValueError("start.image: its weights are of another network than model.vision")
        self.trunk.trunk.load_state_dict({name: weights[given] for name, given in names})

    def channels_last(self) -> None:
        """Stores the weights of convolutions with channels last, which makes them faster."""
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def freeze(self, unlocked_groups: int = 0) -> None:
        """Freezes weights and batch statistics, except those of the last `unlocked_groups` groups
        of layers (blocks, as timm and open_clip count them) and of the norm after them."""
        self.requires_grad_(False)
        if unlocked_groups:
            norm = self.trunk.ln_post if self.is_vit else self.norm
            for group in (*self._groups()[-unlocked_groups:], list(norm.parameters())):
                for parameter in group:
                    parameter.requires_grad_(True)
        self.train(self.training)

    def _groups(self) -> list[list[nn.Parameter]]:
        """The trunk's parameters by layer, from the pixels on."""
        if self.is_vit:
            return [list(block.parameters()) for block in self.trunk.transformer.resblocks]
        from timm.models import group_parameters

        trunk = self.trunk.trunk
        named = group_parameters(trunk, trunk.group_matcher())
        return [[trunk.get_parameter(name) for name in named[i]] for i in sorted(named)]

    def train(self, mode: bool = True) -> ImageTower:
        """As torch does, except that frozen modules stay in evaluation mode, so that their batch
        statistics do not change."""
        super().train(mode)
        for module in self.modules():
            weights = list(module.parameters())
            if module is not self and weights and not any(w.requires_grad for w in weights):
                module.eval()
        return self

    def _map(self, pixels: Tensor) -> Tensor:
        out: Tensor = self.trunk.forward_intermediates(
            pixels, indices=1, intermediates_only=True, output_fmt="NCHW"
        )["image_intermediates"][0]
        return out


class TextTower(nn.Module):
    """A TextTransformer of open_clip without its projection: the end-of-text token after the last
    LayerNorm."""

    def __init__(self, text: Any) -> None:
        super().__init__()
        if type(text).__name__ != "TextTransformer":
            raise ValueError("model.text: must be an open_clip TextTransformer")
        text.text_projection = None
        self.trunk: Any = text
        self.width = int(text.width)
        self.context_length = int(text.context_length)
        self.vocabulary = int(text.vocab_size)

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B W"]:
        """Token ids to one vector per text."""
        out: Tensor = self.trunk(tokens)
        return out


def _square(size: int | tuple[int, int]) -> int:
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise ValueError("model.vision.image_size: must be square")
    return int(height)
