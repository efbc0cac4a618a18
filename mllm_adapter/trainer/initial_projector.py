"""The initial weights of a projector, by ridge regression. N samples, C concepts, H LLM width.

An LLM can read a visual token at once if it looks like the embeddings of its label's words. The
linear map from codes to those embeddings with the least error has a closed form, so the projector
starts from it and not from random weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mllm_adapter.data.code_tables import CodeTable
from mllm_adapter.data.phrase_concepts import PhraseConcepts
from mllm_adapter.model.llm import TokenEmbeddings
from mllm_adapter.model.projector import Projector

RIDGE = 1.0
"""The penalty, relative to the mean diagonal entry of x' x, which is a concept's summed square."""
PRE_GELU_STD = 0.3
"""The standard deviation of the first layer's outputs. At this size GELU is nearly linear."""
TEXT_CODE_STRENGTH = 2.0
"""The value of a text code's strongest concept, as in an edit."""
MAX_IMAGES = 20_000
"""The most images that the regression learns from."""
CG_ITERATIONS = 30
EPSILON = 1e-20
CHUNK_ROWS = 512


def initialize_projector(
    projector: Projector,
    llm: Any,
    token_ids: Callable[[str], list[int]],
    captions: Sequence[str],
    table: CodeTable,
    texts: PhraseConcepts,
) -> None:
    """Sets a projector's weights by ridge regression from codes to embeddings of labels.

    A sample is an image's mean code with its label, or the text code of one of `texts`, which are
    labels and phrases that are learned without an image. Its target is the sum of the embeddings
    of the label's tokens. The second layer becomes the identity, scaled so
    that visual tokens are as large as the LLM's token embeddings.

    `captions` are the labels of the images of `table`, in its order; images without one are left
    out. Where codes say nothing about the labels, the random weights stay.
    """
    embeddings = TokenEmbeddings.of(llm)
    target_of: dict[str, Float[Tensor, " H"]] = {}
    for caption in dict.fromkeys(filter(None, (*captions, *texts.phrases))):
        target_of[caption] = embeddings(torch.tensor(token_ids(caption))).sum(0)
    fires = np.flatnonzero(texts.values.any(axis=1)).tolist()
    parts: list[Tensor] = []
    labelled = [i for i, caption in enumerate(captions) if caption][:MAX_IMAGES]
    for start in range(0, len(labelled), CHUNK_ROWS):
        parts.append(table.means(labelled[start : start + CHUNK_ROWS]))
    for start in range(0, len(fires), CHUNK_ROWS):
        codes = torch.from_numpy(texts.dense(fires[start : start + CHUNK_ROWS]))
        parts.append((codes * TEXT_CODE_STRENGTH).to_sparse())
    samples = torch.cat(parts).coalesce()
    labels = (*(captions[i] for i in labelled), *(texts.phrases[i] for i in fires))
    targets = torch.stack([target_of[label] for label in labels])
    weights = ridge(samples, targets)
    if not weights.any():
        return
    with torch.no_grad():
        projector.rows.copy_(weights * (PRE_GELU_STD / (samples @ weights).std()))
        projector.out.weight.copy_(torch.eye(projector.out.in_features))
        examples = samples.index_select(0, torch.arange(min(CHUNK_ROWS, len(samples)))).to_dense()
        token_std = projector.project(examples).std()
        projector.out.weight.mul_(embeddings.std() / token_std)


def ridge(x: Float[Tensor, "N C"], y: Float[Tensor, "N H"]) -> Float[Tensor, "C H"]:
    """The W that minimizes |x W - y|^2 + penalty |W|^2, for a sparse x.

    Solved by conjugate gradients on (x' x + penalty) W = x' y, independently for each column of y.
    Only products with x and x' are needed, so no C x C matrix is formed.
    """
    sparse, transposed = x.coalesce(), x.t().coalesce()
    penalty = RIDGE * float((sparse.values() ** 2).sum()) / x.shape[1]
    weights = torch.zeros(x.shape[1], y.shape[1])
    residual = transposed @ y  # (C, H), as are direction and product
    direction, error = residual, (residual**2).sum(0)  # error: (H,)
    for _ in range(CG_ITERATIONS):
        product = transposed @ (sparse @ direction) + penalty * direction
        step = error / (direction * product).sum(0).clamp(min=EPSILON)
        weights = weights + step * direction
        residual = residual - step * product
        last_error, error = error, (residual**2).sum(0)
        direction = residual + error / last_error.clamp(min=EPSILON) * direction
    return weights
