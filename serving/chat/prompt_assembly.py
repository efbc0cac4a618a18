"""From a conversation to what the language model reads: tokens first, then embeddings.

P patches, T tokens, H width of the language model. Everything here blocks, so it runs in a thread.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import Any

from bundle.bounded_log import BoundedLog
from bundle.concepts import ConceptVocabulary
from serving.chat.audit import audit
from serving.chat.chat_request import ChatCall, ImageAudit, SteeredImage
from serving.chat.image_codes import ConversationCodes
from serving.chat.load_chat_model import LanguageModel
from serving.chat.resolve_edits import EditResolver
from serving.core.errors import invalid
from serving.core.limits import LimitsConfig

DEFAULT_MAX_TOKENS = 128
"""Length of an answer when the caller sets no max_tokens."""


@dataclass(frozen=True, kw_only=True)
class TokenizedPrompt:
    """A conversation as tokens, before its images are encoded."""

    prompt: Any
    """mllm_adapter.model.prompt.Prompt."""
    max_tokens: int
    digests: tuple[bytes, ...]
    """SHA-256 of each image's framing and bytes."""


@dataclass(frozen=True, kw_only=True)
class AssembledPrompt:
    """What the engine is given, and what it shows of each image."""

    embedded: Any
    """Tensor (T, H)."""
    sampling: Any
    """mllm_adapter.engines.base.Sampling."""
    audits: tuple[ImageAudit, ...]


class PromptAssembler:
    """Assembles prompts for one model; one thread at a time may use it."""

    def __init__(
        self, model: LanguageModel, concepts: ConceptVocabulary, limits: LimitsConfig
    ) -> None:
        adapter = model.adapter.config
        self._model = model
        self._limits = limits
        self._log = BoundedLog(logging.getLogger(__name__))
        self._concepts = len(concepts)
        self._resolve = EditResolver(
            concepts=concepts,
            patches=adapter.patches,
            top=adapter.words.top,
            strength=adapter.words.strength,
        )

    def close(self) -> None:
        """Writes what its log has counted."""
        self._log.close()

    def tokenize(self, call: ChatCall) -> TokenizedPrompt:
        """Tokens and image digests.

        Raises ServingError for a prompt that is too long, or that the chat template refuses, and
        for a penalty that the engine does not have.

        This comes before the images are encoded, so that a prompt that cannot be answered costs
        the vision model nothing.
        """
        from mllm_adapter.model.chat_template import TemplateError
        from mllm_adapter.model.prompt import PromptMessage

        engine = self._model.engine
        if call.sampling.repetition_penalty != 1 and not engine.has_repetition_penalty:
            problem = f"must be 0 or 1: {engine.description} does not have it"
            raise invalid("sampling.repetition_penalty", problem)
        try:
            prompt = self._model.prompt(
                [
                    PromptMessage(role=turn.role, text=turn.text, images=len(turn.images))
                    for turn in call.turns
                ]
            )
        except TemplateError as error:
            self._log.write(logging.WARNING, "chat: %s", error)
            problem = "the model's chat template does not take this conversation"
            raise invalid("messages", problem) from None
        length = len(prompt.ids)
        # The model's context holds the prompt and the answer.
        available = self._model.context - length
        if length > self._limits.prompt_tokens:
            raise invalid("messages", f"{length} tokens, at most {self._limits.prompt_tokens}")
        if available < 1:
            raise invalid("messages", f"{length} tokens, and the model takes {self._model.context}")
        requested = call.sampling.max_tokens
        if requested > available:
            problem = f"the model has room for {available} after this prompt"
            raise invalid("sampling.max_tokens", problem)
        default = min(DEFAULT_MAX_TOKENS, available, self._limits.new_tokens)
        return TokenizedPrompt(
            prompt=prompt,
            max_tokens=requested or default,
            digests=tuple(map(_digest, call.images)),
        )

    def assemble(
        self, call: ChatCall, tokenized: TokenizedPrompt, codes: ConversationCodes
    ) -> AssembledPrompt:
        """Edits the images' codes and projects them into the prompt.

        Raises ServingError naming the field of an edit.
        """
        from mllm_adapter.chat_model import EncodedImage
        from mllm_adapter.engines.base import Sampling
        from mllm_adapter.model.projector import PatchCodes

        images, audits = [], []
        for image, digest in zip(call.images, tokenized.digests, strict=True):
            resolved = self._resolve(image, codes.phrases)
            cached = codes.images[digest]
            patches = PatchCodes.from_arrays(cached.indices, cached.values)
            images.append(EncodedImage(key=digest, codes=patches, plan=resolved.plan))
            audits.append(audit(patches, resolved, self._concepts, cached.coverage))
        return AssembledPrompt(
            embedded=self._model.embed(tokenized.prompt, images),
            sampling=Sampling(
                max_tokens=tokenized.max_tokens,
                temperature=call.sampling.temperature,
                top_p=call.sampling.top_p,
                seed=call.sampling.seed,
                presence_penalty=call.sampling.presence_penalty,
                frequency_penalty=call.sampling.frequency_penalty,
                repetition_penalty=call.sampling.repetition_penalty,
            ),
            audits=tuple(audits),
        )


def _digest(image: SteeredImage) -> bytes:
    # No image begins with the name of a framing.
    digest = hashlib.sha256((image.framing or "").encode())
    digest.update(image.data)
    return digest.digest()
