"""The generation engine: embeddings in, token ids out. T tokens of a prompt, H LLM width."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from jaxtyping import Float
from torch import Tensor

FinishReason = Literal["", "stop", "length"]
"""Why an answer ended: its end token, or `max_tokens`. Empty while it goes on."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen."""

    max_tokens: int = 128
    min_tokens: int = 0
    """The answer does not end before so many."""
    temperature: float = 0.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    """Only the likeliest tokens that together reach this probability."""
    seed: int = 0
    """Of a temperature above 0: the same prompt and seed give the same answer in one engine."""


@dataclass(frozen=True, kw_only=True)
class TokenDelta:
    """The tokens that one step brought."""

    ids: tuple[int, ...]
    finish: FinishReason = ""


class GenerationEngine(Protocol):
    """Answers any number of prompts at the same time; none sees another."""

    @classmethod
    def open(cls, path: Path, max_batch: int, **options: Any) -> LoadedLLM:
        """Loads the LLM of a Hugging Face directory into an engine that decodes up to `max_batch`
        conversations at the same time. `options` are the engine's own.

        Raises LLMError.
        """

    @property
    def description(self) -> str:
        """Library, version and device, for status and logs."""

    @property
    def ended(self) -> bool:
        """It answers nothing any more: closed, or its thread or process died."""

    def generate(
        self, prompt: Float[Tensor, "T H"], sampling: Sampling
    ) -> AsyncGenerator[TokenDelta]:
        """Tokens as they come; the end token is not among them.

        An async generator that owns its cancellation: closed before its end, it frees its slot
        within one decoding step. Raises GenerationError.
        """

    async def close(self) -> None:
        """Ends all work; no call follows."""


class LoadedLLM(NamedTuple):
    """An LLM in its engine, and what prompts are built with. V vocabulary."""

    engine: GenerationEngine
    tokenizer: Any
    embeddings: Float[Tensor, "V H"]
    """The table of token embeddings."""


class GenerationError(RuntimeError):
    """The engine failed. For the log, not for the wire."""
