"""Conversations about images: what a caller gives, and the events that come back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from sparseclip._items import ImageInput
from sparseclip.results import ModelVersion, ScoredConcept
from sparseclip.steering import Steering

ChatRole = Literal["system", "user", "assistant"]
ChatFinish = Literal["stop", "length", ""]
"""The answer's own end, `max_tokens`, or a reason that this client does not know."""


@dataclass(frozen=True, kw_only=True)
class ChatImage:
    """An image with edits of its own."""

    image: ImageInput
    steering: Steering | None = None


@dataclass(frozen=True, kw_only=True)
class ChatMessage:
    """One turn of a conversation."""

    text: str
    role: ChatRole = "user"
    images: Sequence[ImageInput | ChatImage] = ()
    """Shown in front of the text; only a user has them."""


@dataclass(frozen=True, kw_only=True)
class ChatSampling:
    """How the answer's tokens are chosen."""

    max_tokens: int = 0
    """0 is the server's default."""
    temperature: float = 0.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class EditedConcept:
    """A concept of a plan, as means over the image's patches."""

    concept_id: int
    name: str
    before: float
    after: float
    edits: tuple[int, ...]
    """Places of the edits that named it, itself or by a phrase."""


@dataclass(frozen=True, kw_only=True)
class ImageConcepts:
    """What an image shows the language model."""

    before: tuple[ScoredConcept, ...]
    """The strongest as they were, strongest first."""
    after: tuple[ScoredConcept, ...]
    edited: tuple[EditedConcept, ...]
    """Those that changed most first; the first 64."""
    edited_total: int


@dataclass(frozen=True, kw_only=True)
class ChatStart:
    """The first event: who answers, and what the images show before and after the edits."""

    text: ClassVar[str] = ""
    model: ModelVersion
    engine: str
    images: tuple[ImageConcepts, ...]


@dataclass(frozen=True, kw_only=True)
class ChatDelta:
    """A piece of the answer."""

    text: str
    tokens: int


@dataclass(frozen=True, kw_only=True)
class ChatUsage:
    """Tokens read and written."""

    prompt_tokens: int
    """Images included."""
    image_tokens: int
    completion_tokens: int


@dataclass(frozen=True, kw_only=True)
class ChatTimings:
    """Where the time went, in microseconds."""

    decode_us: int
    queue_us: int
    inference_us: int
    """Of the vision model; 0 where all images were seen before."""
    prepare_us: int
    """Editing and projecting the images."""
    first_token_us: int
    total_us: int


@dataclass(frozen=True, kw_only=True)
class ChatEnd:
    """The last event."""

    text: ClassVar[str] = ""
    finish: ChatFinish
    usage: ChatUsage
    timings: ChatTimings


ChatEvent = ChatStart | ChatDelta | ChatEnd
"""All of them have `text`; joined it is the answer."""
