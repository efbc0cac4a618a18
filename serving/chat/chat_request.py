"""What callers of ChatService ask for and what they get, typed: no protobuf, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bundle.manifest import Framing
from serving.batching.item_results import StageTimes
from serving.core.coverage import NO_COVERAGE, ItemCoverage
from serving.core.requests import ConceptRef, ModelSelector

TurnRole = Literal["system", "user", "assistant"]
SteeringOp = Literal["SET", "ADD", "SCALE", "ABLATE"]
AnswerFinish = Literal["stop", "length"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Phrase:
    """A word or phrase that stands for the concepts which the text tower activates for it."""

    text: str
    top: int = 0
    """How many of these concepts are edited; 0 is the adapter's default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestedEdit:
    """One edit as the caller writes it."""

    target: ConceptRef | Phrase
    op: SteeringOp
    value: float | None = None
    """None: the adapter's default strength for SET, nothing for ABLATE."""
    patches: tuple[int, ...] = ()
    """The patches that are edited; empty: all of them."""

    @property
    def field(self) -> str:
        """The field of the request that holds the target."""
        if isinstance(self.target, Phrase):
            return "phrase"
        return "concept_id" if isinstance(self.target, int) else "concept_name"


@dataclass(frozen=True, kw_only=True, slots=True)
class SteeredImage:
    """An image of a conversation, and the edits of its concepts."""

    data: bytes
    edits: tuple[RequestedEdit, ...]
    strength: float
    """How much of the edits to apply, 0 to 1."""
    at: str
    """The image's path in the request, such as `messages[0].images[0]`."""
    framing: Framing | None = None
    """None is the model's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversationTurn:
    """One message of a conversation."""

    role: TurnRole
    text: str
    images: tuple[SteeredImage, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingRequest:
    """How the next token is chosen."""

    max_tokens: int
    """0: the default number, or fewer where the model's context ends before."""
    temperature: float
    top_p: float
    seed: int
    stop: tuple[str, ...] = ()
    """The answer ends before the first of these texts."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    """1: none. Not every engine has it."""


@dataclass(frozen=True, kw_only=True)
class ChatCall:
    """A validated call of Chat."""

    selector: ModelSelector
    turns: tuple[ConversationTurn, ...]
    sampling: SamplingRequest

    @property
    def images(self) -> tuple[SteeredImage, ...]:
        """The images of all turns, in order."""
        return tuple(image for turn in self.turns for image in turn.images)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConceptChange:
    """An edited concept: its mean over the patches before and after the edits."""

    concept_id: int
    before: float
    after: float
    edits: tuple[int, ...]
    """Indices of the caller's edits that name it, directly or by a phrase."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageAudit:
    """What the language model is shown of one image: concept ids and means over the patches."""

    before: tuple[tuple[int, float], ...]
    """The strongest concepts before the edits, strongest first."""
    after: tuple[tuple[int, float], ...]
    """The strongest concepts after the edits, strongest first."""
    edited: tuple[ConceptChange, ...]
    """The concepts that changed most, largest change first; no more than fit into an event."""
    edited_total: int
    """How many concepts were edited."""
    coverage: ItemCoverage = NO_COVERAGE
    """What the model read of the image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StartEvent:
    """The first event of an answer."""

    engine: str
    images: tuple[ImageAudit, ...]
    prompt_tokens: int
    context_tokens: int
    """The most tokens that the language model can hold, prompt and answer together."""
    phrases: Mapping[str, ItemCoverage] = field(default_factory=dict)
    """What the text tower read of each phrase of the edits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeltaEvent:
    """A piece of the answer."""

    text: str
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class EndEvent:
    """The last event of an answer."""

    finish: AnswerFinish
    prompt_tokens: int
    image_tokens: int
    completion_tokens: int
    context_tokens: int
    """The most tokens that the language model can hold, prompt and answer together."""
    vision: StageTimes
    """The longest time of any image, stage by stage; zeros when all came from the cache."""
    prepare_s: float
    """Seconds from the images' codes to the assembled prompt."""
    first_token_s: float
    """Seconds from the assembled prompt to the first token."""
    stop: str = ""
    """The stop sequence that ended the answer."""


Event = StartEvent | DeltaEvent | EndEvent
