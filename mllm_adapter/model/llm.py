"""Causal LMs, as Hugging Face directories. V vocabulary, H width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mllm_adapter.model.answer_format import answer_format
from mllm_adapter.model.llm_files import (
    LLMError,
    check_complete,
    check_directory,
    check_weights,
    one_line,
    read_config,
    read_json,
)
from mllm_adapter.model.llm_types import LLM_TYPES
from training.core.torchvision_compat import transformers

MAX_CONTEXT = 2**24
"""No LLM has a longer context."""

EMBEDDING_TENSOR = "model.embed_tokens.weight"


class TokenEmbeddings:
    """The embeddings of token ids as the model's layers read them, T tokens.

    Some models multiply their table by a number (Gemma). `inputs_embeds` must be so multiplied.
    """

    def __init__(self, table: Float[Tensor, "V H"], scale: float = 1.0) -> None:
        self.table, self._scale = table, scale

    @classmethod
    def of(cls, llm: Any) -> TokenEmbeddings:
        """Those of a loaded model, without a copy."""
        return cls(llm.get_input_embeddings().weight.detach(), _embedding_scale(llm.config))

    def __call__(self, ids: Int[Tensor, "*T"]) -> Float[Tensor, "*T H"]:
        """The embeddings of some tokens, in float32."""
        rows = self.table[ids]
        if self._scale != 1:
            rows = rows * torch.tensor(self._scale).to(rows)
        return rows.float()

    def std(self) -> Float[Tensor, ""]:
        """The standard deviation of all embeddings."""
        return self.table.float().std() * self._scale


def _embedding_scale(config: Any) -> float:
    scales = LLM_TYPES[config.model_type].scales_embeddings
    return float(config.hidden_size**0.5) if scales else 1.0


def load_tokenizer(path: Path, chat_template: str = "", *, own: bool = False) -> Any:
    """Loads the tokenizer of a local directory. `chat_template` takes the place of its own.

    `own` is a directory that a user names, beside whose weights there may be code, which is never
    run. Raises LLMError; also for a tokenizer that has no chat template.
    """
    check_directory(path, own=own)
    library = transformers()
    try:
        tokenizer = library.AutoTokenizer.from_pretrained(path, local_files_only=True)
    except Exception as error:  # the library raises anything for files that do not fit
        raise LLMError(f"{path.name}: the tokenizer cannot be read: {one_line(error)}") from None
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise LLMError(f"{path.name}: tokenizer.json is not read by the library tokenizers")
    if chat_template:
        tokenizer.chat_template = chat_template
    if not tokenizer.chat_template:
        raise LLMError(
            f"{path.name}: no chat template: take the instruction-tuned model, or name a file with "
            "a Jinja template as llm.chat_template"
        )
    tokenizer.init_kwargs.pop("auto_map", None)
    return tokenizer


def load_embeddings(path: Path) -> TokenEmbeddings:
    """Loads only the token embeddings of a local directory.

    Raises LLMError when there is no tensor of the usual name, or a file cannot be read.
    """
    check_directory(path)
    for file in sorted(path.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as tensors:
                if EMBEDDING_TENSOR in tensors.keys():  # noqa: SIM118  a safe_open is not a mapping
                    table: Tensor = tensors.get_tensor(EMBEDDING_TENSOR)
                    return TokenEmbeddings(table, _embedding_scale(read_config(path)))
        except SafetensorError as error:
            raise LLMError(f"{path.name}: {file.name}: {error}") from None
    raise LLMError(f"{path.name}: no {EMBEDDING_TENSOR}")


def end_tokens(path: Path, tokenizer: Any) -> list[int]:
    """The ids of the tokens that end an answer: that of the chat template, the tokenizer's, and
    those of generation_config.json."""
    end: set[int | None] = {answer_format(tokenizer).end, tokenizer.eos_token_id}
    file = path / "generation_config.json"
    if file.is_file():
        configured = read_json(path, file.name).get("eos_token_id")
        end.update(configured if isinstance(configured, list) else [configured])
    return sorted(token for token in end if token is not None)


def context_length(path: Path) -> int:
    """The most tokens that an LLM can hold, prompt and answer together. Raises LLMError.

    Some models read long texts with other positions than short ones (longrope). Then the
    length of short ones counts: a conversation's positions must not change while it grows, nor
    with those beside it in a batch.
    """
    config = read_config(path)
    tokens = getattr(config, "max_position_embeddings", None)
    if not isinstance(tokens, int) or not 0 < tokens <= MAX_CONTEXT:
        raise LLMError(f"{path.name}: config.json: max_position_embeddings: 1 to {MAX_CONTEXT}")
    rope = getattr(config, "rope_parameters", None) or {}
    original = rope.get("original_max_position_embeddings") or getattr(
        config, "original_max_position_embeddings", None
    )
    if rope.get("rope_type") == "longrope" and isinstance(original, int) and original > 0:
        return min(tokens, original)
    return tokens


def load_llm(
    path: Path,
    dtype: torch.dtype = torch.float32,
    chat_template: str = "",
    *,
    own: bool = False,
) -> tuple[Any, Any]:
    """Loads the model, in evaluation mode, and the tokenizer of a local directory. See
    `load_tokenizer` for the options.

    Raises LLMError, before any weight is loaded where the files do not fit each other.
    """
    tokenizer = load_tokenizer(path, chat_template, own=own)
    check_weights(path)
    try:
        model, report = transformers().AutoModelForCausalLM.from_pretrained(
            path,
            local_files_only=True,
            use_safetensors=True,
            dtype=dtype,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise LLMError(f"{path.name}: {one_line(error)}") from None
    check_complete(path, list(report["missing_keys"]))
    for config in (model.config, model.generation_config):
        if hasattr(config, "auto_map"):
            del config.auto_map  # or a copy would name the code again
    return model.eval(), tokenizer
