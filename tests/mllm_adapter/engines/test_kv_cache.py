"""The cache of a batch: rows of different lengths, each as if it were alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mllm_adapter.engines._kv_cache import BatchCache
from mllm_adapter.model.llm_types import LLM_TYPES
from tests.mllm_adapter.llms import family_llm

LENGTHS = (5, 2, 9, 3)
"""The second prompt is padded when it joins; the third makes those before it be padded."""


@pytest.fixture(scope="module", params=list(LLM_TYPES))
def model(request: pytest.FixtureRequest) -> Any:
    """Of every type; some have layers that see less than the longest prompt."""
    return family_llm(request.param)[0]


@pytest.fixture(scope="module")
def prompts() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(length, 64, generator=generator) for length in LENGTHS]


@torch.inference_mode()
def uncached(model: Any, prompt: torch.Tensor, tokens: list[int]) -> torch.Tensor:
    """The logits after a prompt and the tokens of its answer, computed without a cache."""
    answer = model.get_input_embeddings()(torch.tensor(tokens, dtype=torch.int64))
    logits: torch.Tensor = model(inputs_embeds=torch.cat([prompt, answer])[None]).logits[0, -1]
    return logits


def step(cache: BatchCache, model: Any, prompts: list[torch.Tensor], read: list[list[int]]) -> None:
    """Reads one more token of each row, and compares every row with the model without a cache."""
    tokens = [(7 * len(row) + 31 * i) % 290 for i, row in enumerate(read)]
    logits = cache.step(tokens)
    for i, token in enumerate(tokens):
        read[i].append(token)
        expected = uncached(model, prompts[i], read[i])
        torch.testing.assert_close(logits[i], expected, atol=1e-4, rtol=1e-4)
    assert cache.lengths == [len(p) + len(r) for p, r in zip(prompts, read, strict=True)]


def test_rows_that_join_step_and_leave_have_the_logits_of_their_own_conversation(
    model: Any, prompts: list[torch.Tensor]
) -> None:
    cache = BatchCache(model)
    read: list[list[int]] = []
    for i, prompt in enumerate(prompts):
        torch.testing.assert_close(
            cache.join(prompt), uncached(model, prompt, []), atol=1e-4, rtol=1e-4
        )
        read.append([])
        step(cache, model, prompts[: i + 1], read)
    # Without the longest row the others lose columns that were padding to all of them.
    rows = [0, 1, 3]
    cache.keep(rows)
    prompts, read = [prompts[i] for i in rows], [read[i] for i in rows]
    step(cache, model, prompts, read)
    cache.keep([2])
    step(cache, model, prompts[2:], read[2:])


def test_a_batch_that_became_empty_starts_anew(model: Any, prompts: list[torch.Tensor]) -> None:
    cache = BatchCache(model)
    cache.join(prompts[2])
    cache.keep([])
    assert cache.lengths == []
    cache.join(prompts[1])
    step(cache, model, [prompts[1]], [[]])
