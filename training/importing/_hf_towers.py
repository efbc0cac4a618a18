"""Towers of Hugging Face's models, as graphs are written of them.

B batch, T tokens, P patches, G patches of a side, S image side, W width of a tower, D width of the
shared space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


def embedding(output: Any) -> Tensor:
    """The embedding (B, D) that `get_image_features` or `get_text_features` gives: a tensor up to
    transformers 4, and since then an object that has it as `pooler_output`."""
    features: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return features


class HFImageTower(nn.Module):
    """Pixels (B, 3, S, S) to embeddings (B, D), by the library's own forward pass."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D"]:
        """The embedding of each image."""
        return embedding(self.model.get_image_features(pixel_values=pixels))


@dataclass(frozen=True, kw_only=True)
class PaddingMask:
    """Which positions of a row of token ids are no padding, as the library's tokenizer says it."""

    pad_id: int
    left: bool
    """Whether the padding stands before the text."""
    ends_with_pad: bool
    """Whether the token that ends a text has the id of the padding, as in SigLIP."""

    def __call__(self, tokens: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
        """1 for tokens of the text, 0 for padding."""
        text = (tokens != self.pad_id).long()
        if self.left:
            return (text.cumsum(dim=1) > 0).long()
        seen = (text.flip(1).cumsum(dim=1).flip(1) > 0).long()
        if not self.ends_with_pad:
            return seen
        return torch.cat([torch.ones_like(seen[:, :1]), seen[:, :-1]], dim=1)


class HFTextTower(nn.Module):
    """Token ids (B, T) to embeddings (B, D), by the library's own forward pass.

    Without `mask` no position is masked. A causal tower whose padding comes after the text needs
    none: it reads the first end token. SigLIP reads the last position and was trained on rows in
    which the padding is visible; where a tokenizer gives a mask all the same, the library uses it.
    """

    def __init__(self, model: Any, mask: PaddingMask | None = None) -> None:
        super().__init__()
        self.model, self.mask = model, mask

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """The embedding of each text."""
        mask = None if self.mask is None else self.mask(tokens)
        return embedding(self.model.get_text_features(input_ids=tokens, attention_mask=mask))


class HFClassTokenPatches(nn.Module):
    """The image's embedding and its patches', for towers that pool by a class token: both CLIPs.

    A patch's embedding is its own token after the last norm and the projection.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision, self.projection = model.vision_model, model.visual_projection

    def forward(
        self, pixels: Float[Tensor, "B 3 S S"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B P D"]]:
        """Embeddings of images, and of their patches by rows."""
        output = self.vision(pixel_values=pixels)
        patches = self.vision.post_layernorm(output.last_hidden_state[:, 1:])
        return self.projection(output.pooler_output), self.projection(patches)


class HFAttentionPoolPatches(nn.Module):
    """The image's embedding and its patches', for SigLIP, whose pooling is attention.

    A patch's embedding is what the pooling head gives for a sequence of that one token.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision = model.vision_model

    def forward(
        self, pixels: Float[Tensor, "B 3 S S"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B P D"]]:
        """Embeddings of images, and of their patches by rows."""
        output = self.vision(pixel_values=pixels)
        return output.pooler_output, pooled_alone(self.vision.head, output.last_hidden_state)


class SquareNaFlex(nn.Module):
    """SigLIP 2's NaFlex tower on squares of G x G patches; pixels (B, 3, S, S) to the last hidden
    states (B, P, W) and embeddings (B, D).

    The library takes patches of any grid beside their mask and shape. On one fixed grid without
    padding there is nothing to mask, and the position embeddings are a constant.
    """

    def __init__(self, model: Any, side: int) -> None:
        super().__init__()
        vision = model.vision_model
        self.embed, self.encoder = vision.embeddings.patch_embedding, vision.encoder
        self.norm, self.head = vision.post_layernorm, vision.head
        self.patch, self.side = vision.config.patch_size, side
        grid = vision.embeddings.position_embedding_size
        positions = vision.embeddings.position_embedding.weight.detach().float()
        # As resize_positional_embeddings of the library does it.
        resized = F.interpolate(
            positions.reshape(grid, grid, -1).permute(2, 0, 1)[None],
            size=(side, side),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        self.register_buffer("positions", resized[0].flatten(1).T.contiguous()[None])
        self.positions: Tensor

    def forward(
        self, pixels: Float[Tensor, "B 3 S S"]
    ) -> tuple[Float[Tensor, "B P W"], Float[Tensor, "B D"]]:
        """The last hidden states, and what the pooling head gives for them."""
        # A patch is a row of its pixels: G_y x G_x patches of rows, columns, channels.
        cells = pixels.reshape(-1, 3, self.side, self.patch, self.side, self.patch)
        patches = cells.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        hidden = self.embed(patches) + self.positions
        states = self.norm(
            self.encoder(inputs_embeds=hidden, attention_mask=None).last_hidden_state
        )
        return states, self.head(states)


class NaFlexImageTower(nn.Module):
    """Pixels (B, 3, S, S) to embeddings (B, D)."""

    def __init__(self, tower: SquareNaFlex) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D"]:
        """The embedding of each image."""
        pooled: Tensor = self.tower(pixels)[1]
        return pooled


class NaFlexPatches(nn.Module):
    """The image's embedding and its patches', as HFAttentionPoolPatches gives them."""

    def __init__(self, tower: SquareNaFlex) -> None:
        super().__init__()
        self.tower = tower

    def forward(
        self, pixels: Float[Tensor, "B 3 S S"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B P D"]]:
        """Embeddings of images, and of their patches by rows."""
        states, pooled = self.tower(pixels)
        return pooled, pooled_alone(self.tower.head, states)


def pooled_alone(head: Any, states: Float[Tensor, "B P W"]) -> Float[Tensor, "B P D"]:
    """What an attention pooling head gives for each state as a sequence of its own.

    Attention to one token has the weight 1, so of the attention its values and output are left.
    """
    attention, width = head.attention, states.shape[-1]
    weight, bias = attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :]
    hidden = attention.out_proj(F.linear(states, weight, bias))
    pooled: Tensor = hidden + head.mlp(head.layernorm(hidden))
    return pooled
