"""A sentence encoder of Hugging Face's transformers: what a model says of it, and its module.

B batch, T tokens, E width of the encoder's vectors.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bundle.architecture import SentenceOrigin
from bundle.manifest import Tokenization
from training.core.torchvision_compat import transformers

Pooling = Literal["mean", "cls"]

EPSILON = 1e-24
"""Is added to squared lengths, so that a zero vector stays one."""


@dataclass(frozen=True, kw_only=True)
class EncoderDescription:
    """All that is known of a sentence encoder but its weights and its vocabulary. Of both it has
    the digests, so that nobody goes on with another encoder."""

    name: str
    weights_sha256: str
    """The digest of the files with its weights."""
    tokenizer_sha256: str
    """The digest of its tokenizer.json, as a bundle has it."""
    licence: str
    """The licence of the weights, as their publisher names it."""
    config: dict[str, Any]
    """config.json, of which transformers builds the encoder."""
    pooling: Pooling
    """Of the last hidden states the mean over a text's tokens, or the first."""
    normalize: bool
    """Whether vectors have the length 1."""
    tokenization: Tokenization

    @property
    def origin(self) -> SentenceOrigin:
        """What a bundle's manifest says of it."""
        return SentenceOrigin(
            name=self.name, weights_sha256=self.weights_sha256, licence=self.licence
        )


class SentenceTrunk(nn.Module):
    """Token ids to one vector per text, as sentence-transformers computes it (Reimers and Gurevych
    2019): an encoder, and the pooling of its last hidden states."""

    def __init__(self, encoder: Any, description: EncoderDescription) -> None:
        """`encoder` is a model of transformers that gives last hidden states."""
        super().__init__()
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None  # for sentence pairs, and not read here
        self.encoder = encoder
        self.width = int(encoder.config.hidden_size)
        self.vocabulary = int(encoder.config.vocab_size)
        self.pooling, self.normalize = description.pooling, description.normalize
        self.pad_id = description.tokenization.pad_id
        self.has_types = "token_type_ids" in inspect.signature(encoder.forward).parameters

    @classmethod
    def empty(cls, description: EncoderDescription) -> SentenceTrunk:
        """The module with random weights, built of its description alone."""
        library = transformers()
        config = library.AutoConfig.for_model(**description.config)
        # Graphs of the other kinds of attention look for rows without any token, by operators that
        # not every engine has.
        encoder = library.AutoModel.from_config(
            config, dtype=torch.float32, attn_implementation="eager"
        )
        return cls(encoder, description)

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B E"]:
        """Vectors of padded rows of token ids. No token of a text has the id of the padding."""
        mask = (tokens != self.pad_id).long()
        # Without them the library would look them up in a table of zeros.
        types = {"token_type_ids": torch.zeros_like(tokens)} if self.has_types else {}
        out = self.encoder(input_ids=tokens, attention_mask=mask, **types)
        states: Tensor = out.last_hidden_state.float()
        if self.pooling == "cls":
            pooled = states[:, 0]
        else:
            read = mask[..., None].to(states.dtype)
            pooled = (states * read).sum(dim=1) / read.sum(dim=1)  # every row has special tokens
        if not self.normalize:
            return pooled
        squares: Tensor = pooled.square().sum(dim=-1, keepdim=True)
        return pooled / (squares + EPSILON).sqrt()
