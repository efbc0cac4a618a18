"""Conversations about images: what a caller sends, and the events of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from sparseclip._arguments import instances, real_number, unicode_text, whole_number
from sparseclip._image_files import ImageInput
from sparseclip._items import check_image_list
from sparseclip.results import Coverage, ImageFraming, ModelVersion, ScoredConcept
from sparseclip.steering import Steering, check_steering

ChatRole = Literal["system", "user", "assistant"]
"""Who says a message."""
ROLES: tuple[ChatRole, ...] = get_args(ChatRole)
ChatFinish = Literal["stop", "length", ""]
"""Why an answer ended: the language model or a stop sequence ended it, it reached `max_tokens`, or,
if empty, a reason that this client does not know."""


@dataclass(frozen=True, kw_only=True)
class ChatImage:
    """An image with edits of its own."""

    image: ImageInput
    steering: Steering | None = None
    """None leaves the image as it is."""
    framing: ImageFraming | None = None
    """None is the model's own."""

    def __post_init__(self) -> None:
        check_steering(self.steering)


@dataclass(frozen=True, kw_only=True)
class ChatMessage:
    """One turn of a conversation. Raises ValueError or TypeError, naming the field."""

    text: str
    role: ChatRole = "user"
    images: Sequence[ImageInput | ChatImage] = ()
    """Shown before the text. Only messages of the user may have images."""

    def __post_init__(self) -> None:
        unicode_text(self.text, "text")
        if self.role not in ROLES:
            raise ValueError(f"role: must be one of {', '.join(ROLES)}")
        check_image_list(self.images)


@dataclass(frozen=True, kw_only=True)
class ChatSampling:
    """How the tokens of the answer are chosen. Raises ValueError or TypeError, naming the field."""

    max_tokens: int = 0
    """The longest answer; 0 is the server's default."""
    temperature: float = 0.0
    """0 takes the likeliest token; otherwise 0.01 to 2."""
    top_p: float = 1.0
    """Chooses among the likeliest tokens that together reach this probability."""
    seed: int = 0
    """The same request with the same seed has the same answer."""
    stop: Sequence[str] = ()
    """The answer ends before the first of these texts. At most 16, each of 1 to 64 characters."""
    presence_penalty: float = 0.0
    """Lowers the logit of each token that the answer has; -2 to 2. No penalty looks at the prompt.
    """
    frequency_penalty: float = 0.0
    """Lowers the logit of a token once for each time that the answer has it; -2 to 2."""
    repetition_penalty: float = 1.0
    """Divides the logit of each token that the answer has, or multiplies a negative one; 0.01 to 2,
    and 1 is none. A server whose engine does not have it refuses another value."""

    def __post_init__(self) -> None:
        whole_number(self.max_tokens, "max_tokens")
        real_number(self.temperature, "temperature")
        real_number(self.top_p, "top_p")
        whole_number(self.seed, "seed")
        stops = instances(self.stop, str, "stop")
        for position, stop in enumerate(stops):
            unicode_text(stop, f"stop[{position}]")
        object.__setattr__(self, "stop", stops)
        real_number(self.presence_penalty, "presence_penalty")
        real_number(self.frequency_penalty, "frequency_penalty")
        real_number(self.repetition_penalty, "repetition_penalty")


@dataclass(frozen=True, kw_only=True)
class EditedConcept:
    """A concept that a steering changed, with its mean activation over the image's patches."""

    concept_id: int
    name: str
    before: float
    after: float
    edits: tuple[int, ...]
    """The positions in `Steering.edits` of the edits that named it or stand for it by a phrase."""


@dataclass(frozen=True, kw_only=True)
class ImageConcepts:
    """What one image shows the language model: means over the image's patches."""

    before: tuple[ScoredConcept, ...]
    """The strongest concepts before the edits, strongest first; at most ten."""
    after: tuple[ScoredConcept, ...]
    """The strongest concepts after the edits, strongest first; at most ten."""
    edited: tuple[EditedConcept, ...]
    """The edited concepts, most changed first; at most 64."""
    edited_total: int
    """How many concepts were edited."""
    coverage: Coverage = Coverage()
    """What the model read of the image."""


@dataclass(frozen=True, kw_only=True)
class PhraseCoverage:
    """What the text tower read of a phrase."""

    phrase: str
    coverage: Coverage


@dataclass(frozen=True, kw_only=True)
class ChatStart:
    """The first event: who answers, and what the images show before and after the edits."""

    text: ClassVar[str] = ""
    model: ModelVersion
    engine: str
    """What generates the text: library, version and device."""
    images: tuple[ImageConcepts, ...]
    """One for each image of the conversation, in their order."""
    phrases: tuple[PhraseCoverage, ...] = ()
    """What the text tower read of each phrase of the edits, once for each different phrase."""
    prompt_tokens: int = 0
    """All tokens that the language model reads, images included; 0 if an older server does not say.
    """
    context_tokens: int = 0
    """The most tokens that the language model can hold, prompt and answer together; 0 likewise."""


@dataclass(frozen=True, kw_only=True)
class ChatDelta:
    """A piece of the answer."""

    text: str
    tokens: int
    """How many tokens of the language model it took. The last piece may have taken none, if it is
    text that was held back because it could become a stop sequence."""


@dataclass(frozen=True, kw_only=True)
class ChatUsage:
    """How many tokens the language model read and wrote."""

    prompt_tokens: int
    """All that it read, images included."""
    image_tokens: int
    """Those that stand for images."""
    completion_tokens: int
    """Those of the answer, and of a stop sequence that ended it."""
    context_tokens: int = 0
    """The most that it can hold, prompt and answer together; 0 if an older server does not say."""


@dataclass(frozen=True, kw_only=True)
class ChatTimings:
    """How long the stages of an answer took, in microseconds.

    The first three are those of the image that took longest. They are 0 when the server still had
    the codes of all images.
    """

    decode_us: int
    """Reading and resizing an image."""
    queue_us: int
    """Waiting for a slot in a batch of the vision model."""
    inference_us: int
    """The vision model's run."""
    prepare_us: int
    """Editing and projecting the images, and assembling the prompt."""
    first_token_us: int
    """From the assembled prompt to the first token of the answer."""
    total_us: int
    """From the parsed request to the end of the answer."""


@dataclass(frozen=True, kw_only=True)
class ChatEnd:
    """The last event: why the answer ended, and what it cost."""

    text: ClassVar[str] = ""
    finish: ChatFinish
    usage: ChatUsage
    timings: ChatTimings
    stop: str = ""
    """The one of `ChatSampling.stop` that ended the answer; empty if none did."""


ChatEvent = ChatStart | ChatDelta | ChatEnd
"""An event of an answer. All have `text`, which joined is the answer."""
