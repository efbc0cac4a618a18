"""Tiny causal LMs of every supported type, with random weights, a tokenizer of the family's kind,
and a short chat template that behaves as the family's own does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

from mllm_adapter.model.small_llm import SmallLLM, new_llm
from training.core.torchvision_compat import transformers

TEXTS = ["a red apple", "a black cat", "What is this?", "no, it is a dog"] * 4

SLIDING_WINDOW = 4
"""Shorter than the prompts of tests, so that it matters."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """How the published models of a type write a conversation."""

    tokens: str
    """`bytes` for a byte-level BPE; `pieces` for SentencePiece's words, which begin with a space;
    `first` and `prefixed` for the same with a space before a text, or before all of its parts."""
    template: str
    end: str
    """The token that ends a turn."""
    eos: str
    """The tokenizer's eos token, which may be another one."""
    bos: str | None = None
    strip: bool = False
    """Whether special tokens swallow the white space behind them."""
    shape: Mapping[str, Any] = field(default_factory=dict)
    """What the configuration has beside the usual."""


_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
_ALTERNATING = (
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
)
_GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}" + _ALTERNATING + "<start_of_turn>"
    "{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
_MISTRAL = (  # the system message stands in the last question
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content + '\n\n' %}"
    "{% set loop_messages = messages[1:] %}{% else %}{% set system = '' %}"
    "{% set loop_messages = messages %}{% endif %}{{ bos_token }}"
    "{% for m in loop_messages %}" + _ALTERNATING + "{% if m.role == 'user' %}"
    "[INST] {% if loop.last %}{{ system }}{% endif %}{{ m.content }}[/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
_LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
_PHI = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)

FAMILIES: dict[str, Family] = {
    "llama": Family(
        tokens="bytes",
        template=_LLAMA,
        end="<|eot_id|>",
        eos="<|end_of_text|>",
        bos="<|begin_of_text|>",
    ),
    "qwen2": Family(tokens="bytes", template=_CHATML, end="<|im_end|>", eos="<|im_end|>"),
    "qwen3": Family(tokens="bytes", template=_THINKING, end="<|im_end|>", eos="<|im_end|>"),
    "gemma3_text": Family(
        tokens="pieces",
        template=_GEMMA,
        end="<end_of_turn>",
        eos="<eos>",
        bos="<bos>",
        shape={
            "sliding_window": SLIDING_WINDOW,
            "num_hidden_layers": 3,
            "sliding_window_pattern": 3,
        },
    ),
    "mistral": Family(
        tokens="first",
        template=_MISTRAL,
        end="</s>",
        eos="</s>",
        bos="<s>",
        shape={"sliding_window": SLIDING_WINDOW},
    ),
    "phi3": Family(
        tokens="prefixed",
        template=_PHI,
        end="<|end|>",
        eos="<|endoftext|>",
        strip=True,
        shape={"sliding_window": SLIDING_WINDOW},
    ),
    "smollm3": Family(
        tokens="bytes",
        template=_THINKING,
        end="<|im_end|>",
        eos="<|im_end|>",
        shape={"no_rope_layer_interval": 2},
    ),
}
_ROLES = [
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]"),
    *("<|user|>", "<|system|>", "<|assistant|>", "<|end|>", "<unk>"),
]


def tiny_llm(kind: str = "llama") -> tuple[Any, Any]:
    """A model of width 64 in evaluation mode, with a tokenizer of 300 tokens that reads ChatML. Its
    weights are large enough for its answers to differ from prompt to prompt."""
    torch.manual_seed(0)
    _, tokenizer = new_llm(SmallLLM(vocabulary=300, width=64, layers=1, heads=1), TEXTS)
    return _model(kind, tokenizer), tokenizer


def family_llm(kind: str) -> tuple[Any, Any]:
    """A model of a type with a tokenizer and a template like its family's. It has no pad token."""
    tokenizer = _tokenizer(kind)
    torch.manual_seed(0)
    return _model(kind, tokenizer), tokenizer


def save_llm(llm: tuple[Any, Any], folder: Path, **options: Any) -> Path:
    """Writes a model and its tokenizer as a Hugging Face directory."""
    model, tokenizer = llm
    model.save_pretrained(folder, **options)
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    return folder


def _model(kind: str, tokenizer: Any) -> Any:
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 96,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **(FAMILIES[kind].shape if kind in FAMILIES else {}),
    }
    library = transformers()
    config = library.AutoConfig.for_model(kind, **shape)
    model: Any = library.AutoModelForCausalLM.from_config(config)
    if model.config.tie_word_embeddings:  # large ones would only repeat the last token
        model.get_input_embeddings().weight.data.mul_(0.1)
    return model.eval()


@lru_cache
def _serialized(tokens: str, strip: bool, *special: str) -> str:
    byte_level = tokens == "bytes"
    backend = Tokenizer(models.BPE(byte_fallback=not byte_level, unk_token="<unk>"))
    alphabet = [] if byte_level else [f"<0x{i:02X}>" for i in range(256)]
    if byte_level:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
    else:
        replace = normalizers.Replace(" ", "▁")
        if tokens == "first":
            backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        elif tokens == "prefixed":
            backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace])
        else:
            backend.normalizer = replace
        strip_first = [] if tokens == "pieces" else [decoders.Strip(" ", 1, 0)]
        backend.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip_first]
        )
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=alphabet,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if byte_level else [],
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS, trainer)
    written = json.loads(backend.to_str())
    written["added_tokens"] = []  # bytes are tokens like any others
    backend = Tokenizer.from_str(json.dumps(written))
    names = [AddedToken(t, special=True, rstrip=strip, normalized=False) for t in special]
    backend.add_special_tokens(names)
    if byte_level:  # as Qwen has it: an added token that is not special
        backend.add_tokens([AddedToken("<think>"), AddedToken("</think>")])
    return backend.to_str()


def _tokenizer(kind: str) -> Any:
    family = FAMILIES[kind]
    special = [*_ROLES, *filter(None, (family.bos, family.eos))]
    backend = Tokenizer.from_str(_serialized(family.tokens, family.strip, *special))
    tokenizer = transformers().PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=family.bos, eos_token=family.eos
    )
    tokenizer.chat_template = family.template
    return tokenizer
