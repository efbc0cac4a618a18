"""The text tower over a sentence encoder. B batch, T tokens, E encoder width, W tower width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from bundle.schema import NonNegativeFloat, PositiveInt, SchemaError, from_dict
from training.model.sentence_encoder import EncoderDescription, SentenceTrunk
from training.model.vector_memo import VectorMemo

KEY = "sentence_encoder"
"""The key of `model.text` that asks for this tower."""


@dataclass(frozen=True, kw_only=True)
class SentenceTextConfig:
    """`model.text` of a recipe whose text tower stands on a sentence encoder."""

    sentence_encoder: str
    """all-MiniLM-L6-v2, or the folder of another one."""
    hidden: PositiveInt = 768
    """W, the width of the layers after the encoder, which is that of the tower."""
    context_length: PositiveInt | None = None
    """T; None for as many tokens as the encoder reads."""
    frozen: bool = True
    """Keep the encoder as it is, and train the layers after it alone."""
    noise: NonNegativeFloat = 0.0
    """In training, a random vector of this length turns the encoder's unit vector of a text. A
    caption so stands for all texts near it, and cannot be learned by heart."""
    encoder: EncoderDescription | None = None
    """What the encoder was when the run began, which writes it."""

    @classmethod
    def of(cls, text: Mapping[str, Any]) -> SentenceTextConfig:
        """Reads `model.text`. Raises SchemaError naming the key."""
        return from_dict(cls, dict(text), at="model.text")


def refuse_without_encoder(text: Mapping[str, Any]) -> None:
    """Raises SchemaError for a key of SentenceTextConfig that no text tower of open_clip has."""
    for key in ("hidden", "frozen", "noise", "encoder"):
        if key in text:
            raise SchemaError(f"model.text.{key}: wants model.text.{KEY}")


class SentenceTower(nn.Module):
    """A sentence encoder, and a linear layer with GELU and LayerNorm on its vectors.

    The vector that a frozen encoder gives a text never changes: in training and evaluation it is
    computed once and kept. Its weights are no part of the state dict, so checkpoints and averages
    of weights do not hold them.
    """

    def __init__(self, trunk: SentenceTrunk, config: SentenceTextConfig) -> None:
        super().__init__()
        if config.context_length is None or config.encoder is None:
            raise ValueError("model.text: has no description of its encoder; see resolved_text")
        self.trunk, self.frozen, self.description = trunk, config.frozen, config.encoder
        self.noise = config.noise
        self.width, self.vocabulary = config.hidden, trunk.vocabulary
        self.context_length = config.context_length
        self.layers = nn.Sequential(
            nn.Linear(trunk.width, self.width), nn.GELU(), nn.LayerNorm(self.width)
        )
        self._memo = VectorMemo(trunk.pad_id)
        self.trunk.requires_grad_(not self.frozen)
        if self.frozen:
            self.register_state_dict_post_hook(_leave_out)  # type: ignore[no-untyped-call]
            self.register_load_state_dict_pre_hook(_keep)  # type: ignore[no-untyped-call]
        self.train(self.training)

    @classmethod
    def empty(cls, text: Mapping[str, Any]) -> SentenceTower:
        """The tower of a resolved `model.text`, with random weights; see `fill_encoder` of
        training.model.sentence_source. Raises SchemaError."""
        config = SentenceTextConfig.of(text)
        if config.encoder is None:
            raise ValueError("model.text: has no description of its encoder; see resolved_text")
        return cls(SentenceTrunk.empty(config.encoder), config)

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B W"]:
        """Token ids to one vector per text."""
        vectors = self.pooled(tokens)
        if self.noise and self.training:
            vectors = _turned(vectors, self.noise)
        out: Tensor = self.layers(vectors)
        return out

    def pooled(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B E"]:
        """The encoder's vectors."""
        if not self.frozen or torch.compiler.is_exporting():
            return self.trunk(tokens)  # type: ignore[no-any-return]
        return self._memo(self.trunk, tokens)

    def train(self, mode: bool = True) -> SentenceTower:
        """As torch does, except that a frozen encoder stays in evaluation mode, without dropout."""
        super().train(mode)
        if self.frozen:
            self.trunk.eval()
        return self


def _turned(vectors: Tensor, noise: float) -> Tensor:
    """Vectors (B, E) in a random direction near their own, with their own lengths."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    moved = vectors + torch.randn_like(vectors) * length * (noise / vectors.shape[1] ** 0.5)
    turned: Tensor = F.normalize(moved, dim=-1) * length
    return turned


def _leave_out(module: nn.Module, state: dict[str, Tensor], prefix: str, _metadata: object) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}trunk.")]:
        del state[name]


def _keep(module: nn.Module, state: dict[str, Tensor], prefix: str, *_rest: object) -> None:
    """Weights that a state dict leaves out stay as they are."""
    for name, value in module.get_submodule("trunk").state_dict().items():
        state.setdefault(f"{prefix}trunk.{name}", value)
