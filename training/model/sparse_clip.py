"""Sparse CLIP. B batch, T tokens, P patches, S image side, C concepts, D dense width."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bundle.schema import PositiveFloat, PositiveInt
from training.model.build_towers import Towers, build_towers, tower_config
from training.model.sentence_tower import SentenceTower
from training.model.sparse_head import SparseHead
from training.model.towers import ImageFeatures, ImageTower, TextTower

CLIP_SCALE = 1 / 0.07
"""exp(logit scale) with which CLIP starts (arXiv 2103.00020)."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Two open_clip towers, and a head on each.

    Sparse CLIP (arXiv 2601.20075) has `relu` on and a `width_factor` far above 1. With `relu` off
    and a `width_factor` of 1 the same code is CLIP.
    """

    name: str = ""
    """An open_clip configuration, such as ViT-B-32; empty when `vision` and `text` say all."""
    vision: dict[str, Any] = field(default_factory=dict)
    """Values that replace those of the configuration's vision_cfg."""
    text: dict[str, Any] = field(default_factory=dict)
    """Values that replace those of the configuration's text_cfg; or, with `sentence_encoder`, what
    SentenceTextConfig has."""
    embed_dim: PositiveInt = 512
    """D, the width of CLIP's shared space."""
    width_factor: PositiveInt = 32
    """C = embed_dim * width_factor."""
    relu: bool = True
    """A ReLU after the last projection of both towers."""
    rep_relu: bool = False
    """Use GELU's gradient for the ReLU, so that dead concepts can recover."""
    bias: float | None = None
    """Initial value of the last projections' biases; null for no bias, as in CLIP."""
    top_k: PositiveInt | None = None
    """Keep only this many concepts of an image's and of a text's code, the strongest (TopK); null
    for all. Codes of patches are not cut. See SparseHead.cut."""
    head: Literal["replaced", "stacked"] = "stacked"
    """`replaced` projects the tower's width to C; `stacked` projects it to D, then to C."""
    pool: Literal["cls", "patch_mean"] = "cls"
    """An image's codes: `cls` encodes the pooled token, `patch_mean` takes the mean of the patches'
    codes."""
    logit_scale_init: PositiveFloat | None = None
    """Initial value of exp(logit scale), at most the cap. null: CLIP's 1 / 0.07, or the cap where
    that is lower; the scale is then a constant until the gradient lowers it."""
    logit_scale_cap: PositiveFloat = 100.0
    """The sparsity knob: exp(logit scale) is clamped here. A lower cap gives sparser codes."""

    @property
    def concepts(self) -> int:
        """C, the width of the codes."""
        return self.embed_dim * self.width_factor

    @property
    def initial_scale(self) -> float:
        """The value with which exp(logit scale) starts."""
        return min(self.logit_scale_init or CLIP_SCALE, self.logit_scale_cap)


class Encoding(NamedTuple):
    """Un-normalised codes, and the dense vectors that the last projection turned into them."""

    codes: Float[Tensor, "B C"]
    dense: Float[Tensor, "B D"]


class LossInputs(NamedTuple):
    """The inputs of a loss, for a batch."""

    image: Float[Tensor, "B C"]
    """Un-normalised codes of the images."""
    text: Float[Tensor, "B C"]
    """Un-normalised codes of the texts."""
    scale: Float[Tensor, ""]
    parameters: dict[str, Float[Tensor, ""]]
    """The scalars that the loss learns beside the scale, by name; see Loss.parameters."""
    on_ground: Float[Tensor, " B"] | None = None
    """The share of each image's match with its text that is on patches of the ground, from 0 to 1;
    None where nobody asked for it."""


class SparseCLIP(nn.Module):
    """CLIP whose embeddings are non-negative, wide and sparse (arXiv 2601.20075, section 3)."""

    def __init__(
        self,
        config: ModelConfig,
        towers: Towers | None = None,
        loss_parameters: Mapping[str, float] | None = None,
    ) -> None:
        """`towers` are built from `config` unless they are given. `loss_parameters` are the initial
        values of the scalars that a training run's loss learns; a bundle does not hold them."""
        super().__init__()
        self.config = config
        if towers is None:
            towers = build_towers(
                tower_config(config.name, config.vision, config.text), config.embed_dim
            )
        self.image: ImageTower = towers.image
        self.text: TextTower | SentenceTower = towers.text
        self.image_head = self._head(towers.image.width, towers.image_projection)
        self.text_head = self._head(towers.text.width, towers.text_projection)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.initial_scale)))
        self.loss_parameters = nn.ParameterDict(
            {name: torch.tensor(value) for name, value in (loss_parameters or {}).items()}
        )

    def _head(self, width: int, projection: Tensor | None) -> SparseHead:
        c = self.config
        head = SparseHead(
            width,
            c.embed_dim,
            c.concepts,
            kind=c.head,
            relu=c.relu,
            rep_relu=c.rep_relu,
            bias=c.bias,
            top_k=c.top_k,
        )
        if head.embed is not None and projection is not None:
            with torch.no_grad():
                head.embed.weight.copy_(projection.T)
        return head

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Rows and columns of patches; their product is P."""
        return self.image.grid

    @property
    def scale(self) -> Float[Tensor, ""]:
        """exp(logit scale), at most the cap."""
        return self.log_scale.exp().clamp(max=self.config.logit_scale_cap)

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Clamps the parameter itself to the cap, as open_clip does after each optimiser step."""
        self.log_scale.clamp_(0, math.log(self.config.logit_scale_cap))

    def encode_image(self, pixels: Float[Tensor, "B 3 S S"]) -> Encoding:
        """Images to codes (B, C) and dense vectors (B, D)."""
        return self.image_encoding(self.image(pixels), self.image_head)

    def image_encoding(self, features: ImageFeatures, head: SparseHead) -> Encoding:
        """The image tower's features to what a head makes of them; see `encode_image`."""
        if self.config.pool == "cls":
            dense = head.dense(features.pooled)
            return Encoding(head.row_codes(dense), dense)
        patches = head.dense(features.patches)
        return Encoding(head.pooled_codes(patches), patches.mean(dim=1))

    def encode_patches(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B P C"]:
        """Images to the codes of each patch."""
        return self.image_head.codes(self.image_head.dense(self.image(pixels).patches))

    def encode_text(self, tokens: Int[Tensor, "B T"]) -> Encoding:
        """Texts to codes (B, C) and dense vectors (B, D)."""
        dense = self.text_head.dense(self.text(tokens))
        return Encoding(self.text_head.row_codes(dense), dense)

    def forward(
        self,
        pixels: Float[Tensor, "B 3 S S"],
        tokens: Int[Tensor, "B T"],
        ground: Bool[Tensor, "B P"] | None = None,
    ) -> LossInputs:
        """Codes, scale and the loss's scalars in one call: DistributedDataParallel expects every
        parameter that learns to take part in the forward pass. With the patches that show the
        `ground`, also the share of each image's match that is on them; that wants mean pooling."""
        text, on_ground = self.encode_text(tokens).codes, None
        if ground is None:
            image = self.encode_image(pixels).codes
        else:
            patches = self.image_head.dense(self.image(pixels).patches)
            unit = F.normalize(text.detach().float(), dim=-1)  # pictures are to move, not texts
            image, matches = self.image_head.pooled_with_matches(patches, unit)
            on_ground = (matches * ground).sum(1) / (matches.sum(1) + SMALLEST_MATCH)
        return LossInputs(image, text, self.scale, dict(self.loss_parameters.items()), on_ground)


SMALLEST_MATCH = 1e-3
"""Added to the sum of the patches' products with a text, which may be zero."""

SHORTEST_ROW = 0.1
"""A row's gradient is at most that of a row of this share of the batch's mean length."""


def normalize(codes: Float[Tensor, "B C"], eps: float = 1e-6) -> Float[Tensor, "B C"]:
    """Rows of unit length. The norm is computed in float32; an all-zero row stays zero.

    The gradient by a row grows with 1 / its length. With `rep_relu` an all-zero row has a gradient,
    which would be multiplied by 1 / eps: it would be all of the step that gradient clipping leaves.
    So rows shorter than SHORTEST_ROW times the mean of their batch get the gradient of a row of
    that length; where all rows are zero, that of a row of length 1. Others are not changed.
    """
    rows = codes.float().view_as(codes)  # a view, so that the hook is on this use of the codes only
    if rows.requires_grad:
        length = torch.linalg.vector_norm(rows.detach(), dim=-1, keepdim=True)
        mean = length.mean()
        shortest = torch.where(mean > 0, SHORTEST_ROW * mean, 1.0)
        share = (length.clamp(min=eps) / shortest).clamp(max=1.0)
        rows.register_hook(lambda gradient: gradient * share)
    return F.normalize(rows, dim=-1, eps=eps)
