"""A conversation laid out for the language model: tokens, plans, embeddings. All of it blocks.

P patches, T tokens, H width of the language model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bundle.concepts import ConceptVocabulary
from serving.chat.audit import audit
from serving.chat.code_cache import CachedCodes
from serving.chat.loading import LanguageModel
from serving.chat.requests import ChatCall, ImageAudit
from serving.chat.resolve_edits import EditResolver, PhraseCodes
from serving.core.errors import invalid
from serving.core.limits import LimitsConfig

DEFAULT_TOKENS = 128
"""Tokens of an answer where the caller names no number."""


@dataclass(frozen=True, kw_only=True)
class TokenizedPrompt:
    """What is known of a conversation before its images are seen."""

    prompt: Any
    """mllm_adapter.model.prompt.Prompt."""
    max_tokens: int
    digests: tuple[bytes, ...]
    """SHA-256 of each image's bytes."""


@dataclass(frozen=True, kw_only=True)
class AssembledPrompt:
    """What the engine is given."""

    embedded: Any
    """Tensor (T, H)."""
    sampling: Any
    """mllm_adapter.engines.base.Sampling."""
    seen: tuple[ImageAudit, ...]


class PromptAssembler:
    """Lays conversations out for one model, in one thread."""

    def __init__(
        self, model: LanguageModel, concepts: ConceptVocabulary, limits: LimitsConfig
    ) -> None:
        adapter = model.adapter.config
        self._model = model
        self._limits = limits
        self._concepts = len(concepts)
        self._resolve = EditResolver(
            concepts=concepts,
            patches=adapter.patches,
            top=adapter.words.top,
            strength=adapter.words.strength,
        )

    def draft(self, call: ChatCall) -> TokenizedPrompt:
        """Tokens and digests. Raises ServingError for a prompt that is too long."""
        from mllm_adapter.model.prompt import PromptMessage

        prompt = self._model.prompt(
            [
                PromptMessage(role=turn.role, text=turn.text, images=len(turn.images))
                for turn in call.turns
            ]
        )
        length, room = len(prompt.ids), self._model.context - len(prompt.ids)
        if length > self._limits.prompt_tokens:
            raise invalid("messages", f"{length} tokens, at most {self._limits.prompt_tokens}")
        if room < 1:
            raise invalid("messages", f"{length} tokens, and the model takes {self._model.context}")
        wanted = call.sampling.max_tokens
        if wanted > room:
            raise invalid("sampling.max_tokens", f"the model has room for {room} after this prompt")
        return TokenizedPrompt(
            prompt=prompt,
            max_tokens=wanted or min(DEFAULT_TOKENS, room, self._limits.new_tokens),
            digests=tuple(hashlib.sha256(image.data).digest() for image in call.images),
        )

    def finish(
        self,
        call: ChatCall,
        draft: TokenizedPrompt,
        codes: Mapping[bytes, CachedCodes],
        phrases: PhraseCodes,
    ) -> AssembledPrompt:
        """Edits and projects the images. Raises ServingError naming the field of an edit."""
        from mllm_adapter.chat_model import EncodedImage
        from mllm_adapter.engines.base import Sampling
        from mllm_adapter.model.projector import PatchCodes

        images, seen = [], []
        for image, digest in zip(call.images, draft.digests, strict=True):
            resolved = self._resolve(image, phrases)
            patches = PatchCodes.from_arrays(*codes[digest])
            images.append(EncodedImage(key=digest, codes=patches, plan=resolved.plan))
            seen.append(audit(patches, resolved, self._concepts))
        asked = call.sampling
        return AssembledPrompt(
            embedded=self._model.embed(draft.prompt, images),
            sampling=Sampling(
                max_tokens=draft.max_tokens,
                temperature=asked.temperature,
                top_p=asked.top_p,
                seed=asked.seed,
            ),
            seen=tuple(seen),
        )
