"""Where a new projector starts: at what a linear map can tell. N samples, C concepts, H LLM width.

A visual token that looks like the embeddings of its label's words is something an LLM can read at
once. The linear map from codes to those embeddings that errs least has a closed form, so the
projector starts there and not at random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mllm_adapter.data.code_cache import CodeTable
from mllm_adapter.model.projector import Projector
from mllm_adapter.steering.text_codes import TextCodes

RIDGE = 1.0
"""Penalty, in units of the mean squared activation of a concept summed over the samples."""
PRE_GELU_STD = 0.3
"""Standard deviation in front of the GELU, which is nearly linear there."""
TEXT_CODE_STRENGTH = 2.0
"""Text codes are scaled so that their strongest concept has it, as in an edit."""
MAX_IMAGES = 20_000
"""That it learns from, at most."""
CG_ITERATIONS = 30
EPSILON = 1e-20
CHUNK_ROWS = 512


def initialize_projector(
    projector: Projector,
    llm: Any,
    tokenizer: Any,
    meta: Sequence[Mapping[str, Any]],
    table: CodeTable,
    labels: TextCodes,
) -> None:
    """Sets a projector by ridge regression from codes to the summed embeddings of labels' tokens.

    Samples are the images' mean codes with their labels, and the labels' own text codes. The
    second layer starts as the identity, scaled so that visual tokens are as large as the LLM's
    embeddings of words.
    """
    table_of_words = llm.get_input_embeddings().weight.detach().float()
    wanted: dict[str, Float[Tensor, " H"]] = {}
    for caption in dict.fromkeys(m["caption"] for m in meta):
        ids = tokenizer.encode(caption, add_special_tokens=False)
        wanted[caption] = table_of_words[ids].sum(0)
    known = sorted(filter(labels.has_concepts, wanted))
    parts: list[Tensor] = []
    captions: list[str] = []
    for begin in range(0, min(len(meta), MAX_IMAGES), CHUNK_ROWS):
        chosen = range(begin, min(begin + CHUNK_ROWS, len(meta)))
        parts.append(table.codes(chosen).dense(table.concepts).mean(1).to_sparse())
        captions += [meta[i]["caption"] for i in chosen]
    for begin in range(0, len(known), CHUNK_ROWS):
        codes = torch.from_numpy(labels.encode(known[begin : begin + CHUNK_ROWS]))
        parts.append((codes * (TEXT_CODE_STRENGTH / codes.amax(1, keepdim=True))).to_sparse())
    samples = torch.cat(parts)
    targets = torch.stack([wanted[caption] for caption in (*captions, *known)])
    weights = ridge(samples, targets)
    with torch.no_grad():
        projector.rows.copy_(weights * (PRE_GELU_STD / (samples @ weights).std()))
        projector.out.weight.copy_(torch.eye(projector.out.in_features))
        example = samples.index_select(0, torch.arange(min(CHUNK_ROWS, len(samples)))).to_dense()
        found = projector(example[:, None]).std()
        projector.out.weight.mul_(table_of_words.std() / found)


def ridge(x: Float[Tensor, "N C"], y: Float[Tensor, "N H"]) -> Float[Tensor, "C H"]:
    """W of the smallest |x W - y|^2 + penalty |W|^2; x is sparse.

    By conjugate gradients, each column of y on its own: no C x C matrix is made.
    """
    forth, back = x.coalesce(), x.t().coalesce()
    penalty = RIDGE * float((forth.values() ** 2).sum()) / x.shape[1]
    weights = torch.zeros(x.shape[1], y.shape[1])
    residual = back @ y
    direction, error = residual, (residual**2).sum(0)
    for _ in range(CG_ITERATIONS):
        image = back @ (forth @ direction) + penalty * direction
        step = error / (direction * image).sum(0).clamp(min=EPSILON)
        weights = weights + step * direction
        residual = residual - step * image
        last, error = error, (residual**2).sum(0)
        direction = residual + error / last.clamp(min=EPSILON) * direction
    return weights
