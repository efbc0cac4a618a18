"""The body of OpenAI's chat completions, as far as this server has it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from serving.http.body_model import StrictBody

_INT64 = Field(ge=-(2**63), le=2**63 - 1)


class SteeringEditBody(StrictBody):
    """One edit: exactly one of `phrase`, `concept_id`, `concept_name` and `concept`."""

    phrase: str | None = None
    concept_id: int | None = None
    concept_name: str | None = None
    concept: int | str | None = None
    """An id or a name, as the Python client writes plans."""
    op: str
    """`set`, `add`, `scale` or `ablate`."""
    value: float | None = None
    patches: list[int] | None = None
    top: int | None = None


class SteeringBody(StrictBody):
    """The edits of one image's concepts."""

    edits: list[SteeringEditBody]
    strength: float | None = None


class ImageAddress(StrictBody):
    """An image of a message, in a data URI."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"
    """Without effect: a model has one resolution."""


class ContentPart(StrictBody):
    """A part of a message: a text, or an image with its own steering."""

    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: ImageAddress | None = None
    steering: SteeringBody | Literal[False] | None = None
    framing: Literal["crop", "pad"] | None = None


class ChatMessageBody(StrictBody):
    """One message."""

    role: Literal["system", "developer", "user", "assistant"]
    content: list[ContentPart]

    @field_validator("content", mode="before")
    @classmethod
    def _as_parts(cls, value: Any) -> Any:
        return [{"type": "text", "text": value}] if isinstance(value, str) else value


class StreamOptions(StrictBody):
    """What a stream has beside its deltas."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class ResponseFormat(StrictBody):
    """Texts are the only form of answers."""

    type: Literal["text"]


class ChatCompletionBody(StrictBody):
    """A conversation, and how to answer it."""

    messages: list[ChatMessageBody]
    model: str = ""
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = None
    top_p: float | None = Field(None, gt=0, le=1)
    seed: Annotated[int, _INT64] | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = Field(None, gt=0)
    steering: SteeringBody | Literal[False] | None = None

    # What OpenAI has and this server lacks: accepted with the value that asks for nothing.
    n: Literal[1] = 1
    logprobs: Literal[False] = False
    top_logprobs: Literal[0] = 0
    logit_bias: dict[str, int] = Field(default_factory=dict, max_length=0)
    tools: list[Any] = Field(default_factory=list, max_length=0)
    tool_choice: Literal["none", "auto"] = "none"
    functions: list[Any] = Field(default_factory=list, max_length=0)
    function_call: Literal["none", "auto"] = "none"
    parallel_tool_calls: bool = True
    response_format: ResponseFormat | None = None
    modalities: list[Literal["text"]] = Field(default_factory=list)
    service_tier: Literal["auto", "default"] = "auto"
    store: Literal[False] = False
    verbosity: Literal["medium"] = "medium"
    reasoning_effort: Literal["none"] = "none"

    # Labels of the caller, which change no answer.
    user: str | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
