"""The projector's start: the closed form, and tokens that already look like their label."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mllm_adapter.data.code_tables import CodeTable
from mllm_adapter.data.phrase_concepts import PhraseConcepts
from mllm_adapter.model.projector import Projector
from mllm_adapter.trainer.initial_projector import RIDGE, initialize_projector, ridge
from tests.mllm_adapter.llms import tiny_llm

CAPTIONS = ("dog", "cat", "red apple")


def test_ridge_is_the_closed_form() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(40, 12, generator=generator) * (torch.rand(40, 12, generator=generator) < 0.3)
    y = torch.randn(40, 5, generator=generator)
    penalty = RIDGE * (x**2).sum() / 12
    expected = torch.linalg.solve(x.T @ x + penalty * torch.eye(12), x.T @ y)
    torch.testing.assert_close(ridge(x.to_sparse(), y), expected, atol=1e-4, rtol=1e-4)


def test_a_new_projector_says_words_of_the_label() -> None:
    """One concept a label, on one patch of two."""
    llm, tokenizer = tiny_llm()
    images = 30
    table = CodeTable(
        indices=(np.arange(images) % 3).astype(np.uint16),
        values=np.ones(images, dtype=np.float16),
        offsets=np.arange(2 * images + 1) // 2,
        patches=2,
        concepts=8,
    )
    captions = [CAPTIONS[i % 3] for i in range(images)]
    labels = PhraseConcepts(
        phrases=CAPTIONS,
        indices=np.arange(3)[:, None],
        values=np.ones((3, 1), np.float32),
        concepts=8,
    )
    projector = Projector(8, llm.config.hidden_size)
    initialize_projector(projector, llm, tokenizer.encode, captions, table, labels)
    words: Tensor = llm.get_input_embeddings().weight.detach()
    with torch.no_grad():
        whole = projector(table.codes(range(3)).dense(8))[:, 0]
    meant = torch.stack(
        [words[tokenizer.encode(c, add_special_tokens=False)].sum(0) for c in CAPTIONS]
    )
    likeness = torch.cosine_similarity(whole[:, None], meant[None], dim=-1)
    assert likeness.argmax(1).tolist() == [0, 1, 2]
    assert likeness.diagonal().min() > 0.6
    assert 0.5 < whole.std() / words.std() < 2
