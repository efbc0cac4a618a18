"""The contract of a generation engine: embeddings in, token ids out.

T tokens of a prompt, H LLM width.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from jaxtyping import Float
from torch import Tensor

from mllm_adapter.model.llm import TokenEmbeddings

FinishReason = Literal["", "stop", "length"]
"""Why an answer ended: `stop` for an end token, `length` for `max_tokens`; empty before its end."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen."""

    max_tokens: int = 128
    min_tokens: int = 0
    """No end token is chosen before the answer has this many tokens."""
    temperature: float = 0.0
    """0 always chooses the likeliest token."""
    top_p: float = 1.0
    """Chooses among the likeliest tokens whose probabilities add up to this."""
    seed: int = 0
    """Above temperature 0, an engine gives the same answer to the same prompt and seed."""
    # Penalties look at the tokens of the answer so far. A prompt is embeddings, some of them of
    # images, and has no ids that could be counted. The repetition penalty comes before the others.
    presence_penalty: float = 0.0
    """Subtracted from the logit of each token that the answer has (OpenAI's definition)."""
    frequency_penalty: float = 0.0
    """Subtracted from a token's logit once for each time that the answer has it (OpenAI, too)."""
    repetition_penalty: float = 1.0
    """The logit of each token that the answer has is divided by this if it is positive, else
    multiplied (CTRL, arXiv:1909.05858, section 4.1, as transformers and vLLM have it)."""

    @property
    def penalised(self) -> bool:
        """Whether there is any penalty."""
        penalties = (self.presence_penalty, self.frequency_penalty, self.repetition_penalty)
        return penalties != (0.0, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class TokenDelta:
    """The tokens that a decoding step added to an answer."""

    ids: tuple[int, ...]
    finish: FinishReason = ""
    """Set on the last delta of an answer, which may have no tokens."""


class GenerationEngine(Protocol):
    """Answers any number of prompts at the same time; no answer depends on another prompt.

    An engine with an extra of its own imports its library at the top of its module. `Plugins.load`
    then reports a missing library in one line, which names the extra.
    """

    @classmethod
    def open(cls, path: Path, max_batch: int, **options: Any) -> LoadedLLM:
        """Loads the LLM of a Hugging Face directory.

        The engine decodes up to `max_batch` conversations at the same time and queues the rest.
        `options` are specific to the engine. Raises LLMError.
        """

    @property
    def description(self) -> str:
        """The library, its version and the device, for status and logs."""

    @property
    def has_repetition_penalty(self) -> bool:
        """Whether it takes a `repetition_penalty` other than 1."""

    @property
    def ended(self) -> bool:
        """Whether the engine was closed or its thread or process died. It then answers nothing."""

    def generate(
        self, prompt: Float[Tensor, "T H"], sampling: Sampling
    ) -> AsyncGenerator[TokenDelta]:
        """Yields tokens as they are decoded, without the end token.

        Closing the generator early cancels the answer: its slot in the batch is free within one
        decoding step. Raises GenerationError.
        """

    async def close(self) -> None:
        """Stops all work and frees the model. The engine must not be used afterwards."""


class LoadedLLM(NamedTuple):
    """An LLM in its engine, with what a prompt is built from."""

    engine: GenerationEngine
    tokenizer: Any
    embeddings: TokenEmbeddings


class GenerationError(RuntimeError):
    """The engine failed. The message is for the log and must not reach a caller."""
