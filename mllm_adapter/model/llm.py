"""Causal LMs: a Hugging Face directory, or a new small one. V vocabulary, H width."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mllm_adapter.model.llm_files import (
    LLMError,
    check_complete,
    check_directory,
    check_weights,
    read_json,
)
from training.core.torchvision_compat import transformers

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML, the format of SmolLM2 and Qwen."""

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

MAX_CONTEXT = 2**24
"""No LLM has a longer context."""

EMBEDDING_TENSOR = "model.embed_tokens.weight"


@dataclass(frozen=True, kw_only=True)
class SmallLLM:
    """The shape of a new Llama, whose tokenizer is learned from the texts that it will read."""

    vocabulary: int = 4096
    width: int = 256
    layers: int = 6
    heads: int = 4
    key_value_heads: int = 2
    inner: int = 704
    """The width of the feed-forward layers."""
    context: int = 512
    """The longest prompt and answer together, in tokens."""


def load_tokenizer(path: Path) -> Any:
    """Loads the tokenizer of a local directory. Raises LLMError."""
    check_directory(path)
    try:
        return transformers().AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise LLMError(f"{path.name}: {' '.join(str(error).split())[:300]}") from None


def load_embeddings(path: Path) -> Float[Tensor, "V H"]:
    """Loads only the token embeddings of a local Llama or Qwen.

    Raises LLMError when there is no tensor of the usual name, or a file cannot be read.
    """
    check_directory(path)
    for file in sorted(path.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as tensors:
                if EMBEDDING_TENSOR in tensors.keys():  # noqa: SIM118  a safe_open is not a mapping
                    table: Tensor = tensors.get_tensor(EMBEDDING_TENSOR)
                    return table
        except SafetensorError as error:
            raise LLMError(f"{path.name}: {file.name}: {error}") from None
    raise LLMError(f"{path.name}: no {EMBEDDING_TENSOR}: not a Llama or Qwen")


def end_tokens(path: Path, tokenizer: Any) -> list[int]:
    """The ids of the tokens that end an answer: the tokenizer's, and generation_config.json's."""
    end: set[int | None] = {tokenizer.eos_token_id}
    file = path / "generation_config.json"
    if file.is_file():
        configured = read_json(path, file.name).get("eos_token_id")
        end.update(configured if isinstance(configured, list) else [configured])
    return sorted(token for token in end if token is not None)


def context_length(path: Path) -> int:
    """The most tokens that an LLM can hold, prompt and answer together. Raises LLMError."""
    tokens = read_json(path, "config.json").get("max_position_embeddings")
    if not isinstance(tokens, int) or not 0 < tokens <= MAX_CONTEXT:
        raise LLMError(f"{path.name}: config.json: max_position_embeddings: 1 to {MAX_CONTEXT}")
    return tokens


def load_llm(path: Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Loads the model, in evaluation mode, and the tokenizer of a local directory.

    Raises LLMError, before any weight is loaded where the files do not fit each other.
    """
    tokenizer = load_tokenizer(path)
    check_weights(path)
    library = transformers()
    library.utils.logging.disable_progress_bar()  # it would end up in a server's log
    try:
        model, report = library.AutoModelForCausalLM.from_pretrained(
            path,
            local_files_only=True,
            use_safetensors=True,
            dtype=dtype,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise LLMError(f"{path.name}: {' '.join(str(error).split())[:300]}") from None
    check_complete(path, list(report["missing_keys"]))
    return model.eval(), tokenizer


def new_llm(config: SmallLLM, texts: Iterable[str]) -> tuple[Any, Any]:
    """Makes a model with random weights, and a byte-level BPE tokenizer learned from `texts`."""
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
