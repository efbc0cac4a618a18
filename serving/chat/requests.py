"""What callers of ChatService ask for and what they are told, typed: no protobuf, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from serving.core.requests import ConceptRef, ModelSelector, StageTimes

TurnRole = Literal["system", "user", "assistant"]
SteeringOp = Literal["SET", "ADD", "SCALE", "ABLATE"]
AnswerFinish = Literal["stop", "length"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Phrase:
    """A word or phrase that stands for concepts."""

    text: str
    top: int = 0
    """How many concepts; 0 is the adapter's default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestedEdit:
    """One edit as the caller writes it."""

    target: ConceptRef | Phrase
    op: SteeringOp
    value: float | None = None
    """None: the adapter's default strength for SET, nothing for ABLATE."""
    patches: tuple[int, ...] = ()
    """Empty: all of them."""

    @property
    def field(self) -> str:
        """The field of the request that holds the target."""
        if isinstance(self.target, Phrase):
            return "phrase"
        return "concept_id" if isinstance(self.target, int) else "concept_name"


@dataclass(frozen=True, kw_only=True, slots=True)
class SteeredImage:
    """An image of a conversation."""

    data: bytes
    edits: tuple[RequestedEdit, ...]
    strength: float
    at: str
    """Its path in the request, such as `messages[0].images[0]`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversationTurn:
    """One message."""

    role: TurnRole
    text: str
    images: tuple[SteeredImage, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingRequest:
    """How tokens are chosen."""

    max_tokens: int
    """0: the default, as far as the context reaches."""
    temperature: float
    top_p: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class ChatCall:
    """A validated call of Chat."""

    selector: ModelSelector
    turns: tuple[ConversationTurn, ...]
    sampling: SamplingRequest

    @property
    def images(self) -> tuple[SteeredImage, ...]:
        """The images of all messages, in their order."""
        return tuple(image for turn in self.turns for image in turn.images)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConceptChange:
    """A concept of a plan: its mean over the patches before and after."""

    concept_id: int
    before: float
    after: float
    edits: tuple[int, ...]
    """Places of the caller's edits that named it, itself or by a phrase."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageAudit:
    """What the language model is shown of one image: concept ids and means over the patches."""

    before: tuple[tuple[int, float], ...]
    """The strongest as they were, strongest first."""
    after: tuple[tuple[int, float], ...]
    edited: tuple[ConceptChange, ...]
    """Those that changed most first, and not more than fit an event."""
    edited_total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StartEvent:
    """The first event."""

    engine: str
    images: tuple[ImageAudit, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class DeltaEvent:
    """A piece of the answer."""

    text: str
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class EndEvent:
    """The last event."""

    finish: AnswerFinish
    prompt_tokens: int
    image_tokens: int
    completion_tokens: int
    vision: StageTimes
    """Of the image that took longest in each stage; zeros where none was new."""
    prepare_s: float
    first_token_s: float


Event = StartEvent | DeltaEvent | EndEvent
