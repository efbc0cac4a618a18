"""Tiny causal LMs with random weights and a byte-level tokenizer."""

from __future__ import annotations

from typing import Any

import torch

from mllm_adapter.model.llm import SmallLLM, new_llm
from training.core.torchvision_compat import transformers

TEXTS = ["a red apple", "a black cat", "What is this?", "no, it is a dog"] * 4


def tiny_llm(kind: str = "llama") -> tuple[Any, Any]:
    """A Llama or Qwen2 of width 64 in evaluation mode, with its tokenizer. Its weights are large
    enough for its answers to differ from prompt to prompt."""
    torch.manual_seed(0)
    _, tokenizer = new_llm(SmallLLM(vocabulary=300, width=64, layers=1, heads=1), TEXTS)
    shape = {
        "vocab_size": 300,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 96,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    library = transformers()
    model: Any = (
        library.LlamaForCausalLM(library.LlamaConfig(**shape))
        if kind == "llama"
        else library.Qwen2ForCausalLM(library.Qwen2Config(**shape))
    )
    return model.eval(), tokenizer
