"""Causal LMs: a Hugging Face directory, or a small one of our own. H width."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from training.core.compat import transformers

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML, as SmolLM2 and Qwen have it."""

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


EMBEDDING_TENSOR = "model.embed_tokens.weight"


class LLMError(ValueError):
    """An LLM that cannot be used; the message says why."""


@dataclass(frozen=True, kw_only=True)
class SmallLLM:
    """A Llama of our own, with a tokenizer that is learned from the texts it will read."""

    vocabulary: int = 4096
    width: int = 256
    layers: int = 6
    heads: int = 4
    key_value_heads: int = 2
    inner: int = 704
    """Width of the feed-forward layers."""
    context: int = 512


def check_directory(path: Path) -> None:
    """Raises LLMError unless it holds a configuration, a tokenizer and safetensors, and no file
    that could run code when it is loaded."""
    if not (path / "config.json").is_file():
        raise LLMError(f"{path.name}: no config.json: not a Hugging Face directory")
    if not (path / "tokenizer.json").is_file():
        raise LLMError(f"{path.name}: no tokenizer.json")
    if not any(path.glob("*.safetensors")):
        raise LLMError(f"{path.name}: no safetensors; other weight formats are not read")
    for file in path.iterdir():
        if file.suffix in {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py"}:
            raise LLMError(f"{path.name}: holds {file.name}; only safetensors and JSON are read")


def load_tokenizer(path: Path) -> Any:
    """The tokenizer of a local directory. Raises LLMError."""
    check_directory(path)
    try:
        return transformers().AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise LLMError(f"{path.name}: {' '.join(str(error).split())[:300]}") from None


def load_embeddings(path: Path) -> Float[Tensor, "V H"]:
    """The table of token embeddings of a local Llama or Qwen, and nothing else of it.

    Raises LLMError when it has none under the usual name.
    """
    check_directory(path)
    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            if EMBEDDING_TENSOR in tensors.keys():  # noqa: SIM118  a safe_open is not a mapping
                table: Tensor = tensors.get_tensor(EMBEDDING_TENSOR)
                return table
    raise LLMError(f"{path.name}: no {EMBEDDING_TENSOR}: not a Llama or Qwen")


def end_tokens(path: Path, tokenizer: Any) -> list[int]:
    """Token ids that end an answer."""
    end: set[int] = {tokenizer.eos_token_id}
    file = path / "generation_config.json"
    if file.is_file():
        found = json.loads(file.read_text()).get("eos_token_id")
        end.update(found if isinstance(found, list) else [found])
    return sorted(token for token in end if token is not None)


def context_length(path: Path) -> int:
    """Tokens that an LLM takes."""
    return int(json.loads((path / "config.json").read_text())["max_position_embeddings"])


def load_llm(path: Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Model and tokenizer of a local directory. Raises LLMError."""
    tokenizer = load_tokenizer(path)
    library = transformers()
    library.utils.logging.disable_progress_bar()  # half a second is not worth a server's log line
    try:
        model = library.AutoModelForCausalLM.from_pretrained(
            path, local_files_only=True, use_safetensors=True, dtype=dtype
        )
    except (OSError, ValueError, KeyError) as error:
        raise LLMError(f"{path.name}: {' '.join(str(error).split())[:300]}") from None
    return model.eval(), tokenizer


def new_llm(config: SmallLLM, texts: Iterable[str]) -> tuple[Any, Any]:
    """A model with random weights, and a byte-level BPE tokenizer learned from `texts`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    library = transformers()
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    tokenizer = library.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=config.context,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    model = library.LlamaForCausalLM(
        library.LlamaConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.key_value_heads,
            intermediate_size=config.inner,
            max_position_embeddings=config.context,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    return model, tokenizer
