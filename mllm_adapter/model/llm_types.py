"""The types of language models that an adapter can have, as `model_type` in config.json names them.

All of them take `inputs_embeds` in place of token ids, and keep their token embeddings as
`model.embed_tokens.weight`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LLMType:
    """What is known of one type."""

    families: str
    """Published models of this type."""
    end: str
    """The token by which the chat templates of these models end a turn."""
    scales_embeddings: bool = False
    """Whether the model multiplies the embeddings of token ids by the root of its width. It takes
    `inputs_embeds` as they are."""


LLM_TYPES: Mapping[str, LLMType] = {
    "llama": LLMType(families="Llama 2 and 3, SmolLM, SmolLM2", end="<|eot_id|>, <|im_end|>"),
    "qwen2": LLMType(families="Qwen 2 and 2.5", end="<|im_end|>"),
    "qwen3": LLMType(families="Qwen 3", end="<|im_end|>"),
    "gemma3_text": LLMType(
        families="Gemma 3 270M and 1B", end="<end_of_turn>", scales_embeddings=True
    ),
    "mistral": LLMType(families="Mistral 7B", end="</s>"),
    "phi3": LLMType(families="Phi-3 mini and medium, Phi-4 mini", end="<|end|>"),
    "smollm3": LLMType(families="SmolLM3", end="<|im_end|>"),
}
"""The table of supported types; each was tried with random weights in tests/mllm_adapter."""
