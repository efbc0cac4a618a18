"""Between the messages of ChatService and the server's types. Requests are validated here."""

from __future__ import annotations

from bundle.text import EMPTY, is_blank
from serving.chat.chat_request import (
    ChatCall,
    ConversationTurn,
    DeltaEvent,
    Event,
    ImageAudit,
    Phrase,
    RequestedEdit,
    SamplingRequest,
    StartEvent,
    SteeredImage,
    SteeringOp,
    TurnRole,
)
from serving.core.errors import invalid
from serving.core.limits import LimitsConfig
from serving.core.requests import ConceptRef
from serving.models.loaded_model import ServedModel
from serving.rpc.convert import coverage as convert_coverage
from serving.rpc.convert import embedding as convert
from sparseclip.v1 import chat_pb2

_ROLES: dict[int, TurnRole] = {
    chat_pb2.CHAT_ROLE_SYSTEM: "system",
    chat_pb2.CHAT_ROLE_USER: "user",
    chat_pb2.CHAT_ROLE_ASSISTANT: "assistant",
}
_OPS: dict[int, SteeringOp] = {
    chat_pb2.STEERING_OP_SET: "SET",
    chat_pb2.STEERING_OP_ADD: "ADD",
    chat_pb2.STEERING_OP_SCALE: "SCALE",
    chat_pb2.STEERING_OP_ABLATE: "ABLATE",
}
_FINISHES = {"stop": chat_pb2.CHAT_FINISH_STOP, "length": chat_pb2.CHAT_FINISH_LENGTH}

_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.01, 2.0
"""Below the minimum logits overflow, and the NaN of one row would end the whole batch."""

_MIN_REPETITION_PENALTY, _MAX_REPETITION_PENALTY = 0.01, 2.0
_MAX_PENALTY = 2.0
"""Of presence and of frequency, above and below 0."""

_MAX_STOPS, _MAX_STOP_CHARACTERS = 16, 64

_MAX_PATCHES = 4_096
"""More than any model's grid has. The model's own grid is checked once the model is known."""


def chat_call(request: chat_pb2.ChatRequest, limits: LimitsConfig) -> ChatCall:
    """A validated call. Raises ServingError naming the field."""
    if not request.messages:
        raise invalid("messages", "at least one is needed")
    if len(request.messages) > limits.messages_per_chat:
        raise invalid("messages", f"more than {limits.messages_per_chat}")
    if sum(len(message.images) for message in request.messages) > limits.images_per_call:
        raise invalid("messages", f"more than {limits.images_per_call} images")
    turns = tuple(
        _turn(message, limits, f"messages[{i}]") for i, message in enumerate(request.messages)
    )
    for i, turn in enumerate(turns):
        if turn.role == "system" and i > 0:
            raise invalid(f"messages[{i}].role", "only the first one may be the system's")
    if turns[-1].role != "user":
        raise invalid(f"messages[{len(turns) - 1}].role", "the last one must be the user's")
    call = ChatCall(
        selector=convert.selector(request.model),
        turns=turns,
        sampling=_sampling(request.sampling, limits),
    )
    # Each phrase is one text for the model, so their number is bounded as that of texts is.
    phrases = {e.target for i in call.images for e in i.edits if isinstance(e.target, Phrase)}
    if len(phrases) > limits.texts_per_call:
        raise invalid("messages", f"more than {limits.texts_per_call} phrases")
    return call


def _turn(message: chat_pb2.ChatMessage, limits: LimitsConfig, at: str) -> ConversationTurn:
    role = _ROLES.get(message.role)
    if role is None:
        raise invalid(f"{at}.role", "must be named")
    if len(message.text.encode()) > limits.text_bytes:
        raise invalid(f"{at}.text", f"more than {limits.text_bytes} bytes")
    if message.images and role != "user":
        raise invalid(f"{at}.images", "only the user has images")
    if is_blank(message.text) and not message.images:
        raise invalid(f"{at}.text", EMPTY)
    images = tuple(
        _image(image, limits, f"{at}.images[{i}]") for i, image in enumerate(message.images)
    )
    return ConversationTurn(role=role, text=message.text, images=images)


def _image(message: chat_pb2.ChatImage, limits: LimitsConfig, at: str) -> SteeredImage:
    if not message.data:
        raise invalid(f"{at}.data", "must not be empty")
    plan = message.steering
    if len(plan.edits) > limits.steering_edits:
        raise invalid(f"{at}.steering.edits", f"more than {limits.steering_edits}")
    strength = plan.strength if plan.HasField("strength") else 1.0
    if not 0 <= strength <= 1:
        raise invalid(f"{at}.steering.strength", "must be 0 to 1")
    edits = tuple(
        _edit(edit, limits, f"{at}.steering.edits[{i}]") for i, edit in enumerate(plan.edits)
    )
    framing = convert_coverage.framing(message.framing)
    return SteeredImage(data=message.data, edits=edits, strength=strength, at=at, framing=framing)


def _edit(message: chat_pb2.SteeringEdit, limits: LimitsConfig, at: str) -> RequestedEdit:
    op = _OPS.get(message.op)
    if op is None:
        raise invalid(f"{at}.op", "must be named")
    target = _target(message, limits, at)
    value = message.value if message.HasField("value") else None
    if value is None and op in ("ADD", "SCALE"):
        raise invalid(f"{at}.value", f"{op} needs one")
    if len(message.patches) > _MAX_PATCHES:
        raise invalid(f"{at}.patches", f"more than {_MAX_PATCHES}")
    return RequestedEdit(target=target, op=op, value=value, patches=tuple(message.patches))


def _target(message: chat_pb2.SteeringEdit, limits: LimitsConfig, at: str) -> ConceptRef | Phrase:
    kind = message.WhichOneof("target")
    if message.top and kind != "phrase":
        raise invalid(f"{at}.top", "only a phrase has one")
    match kind:
        case "concept_id":
            return message.concept_id
        case "concept_name":
            if is_blank(message.concept_name):
                raise invalid(f"{at}.concept_name", EMPTY)
            return message.concept_name
        case "phrase":
            if is_blank(message.phrase):
                raise invalid(f"{at}.phrase", EMPTY)
            if len(message.phrase.encode()) > limits.text_bytes:
                raise invalid(f"{at}.phrase", f"more than {limits.text_bytes} bytes")
            if message.top > limits.top_concepts:
                raise invalid(f"{at}.top", f"must be at most {limits.top_concepts}")
            return Phrase(text=message.phrase, top=message.top)
    raise invalid(f"{at}.target", "a concept_id, a concept_name or a phrase is needed")


def _sampling(message: chat_pb2.ChatSampling, limits: LimitsConfig) -> SamplingRequest:
    if message.max_tokens > limits.new_tokens:
        raise invalid("sampling.max_tokens", f"must be at most {limits.new_tokens}")
    # The factor allows for rounding: as a 32-bit float, 0.01 is a little less than 0.01.
    temperature = message.temperature
    if temperature and not _MIN_TEMPERATURE * 0.9999 <= temperature <= _MAX_TEMPERATURE:
        raise invalid(
            "sampling.temperature", f"must be 0, or {_MIN_TEMPERATURE} to {_MAX_TEMPERATURE:g}"
        )
    if not 0 <= message.top_p <= 1:
        raise invalid("sampling.top_p", "must be 0 to 1")
    return SamplingRequest(
        max_tokens=message.max_tokens,
        temperature=temperature,
        top_p=message.top_p or 1.0,
        seed=message.seed,
        stop=_stops(message),
        presence_penalty=_penalty("presence_penalty", message.presence_penalty),
        frequency_penalty=_penalty("frequency_penalty", message.frequency_penalty),
        repetition_penalty=_repetition_penalty(message),
    )


def _stops(message: chat_pb2.ChatSampling) -> tuple[str, ...]:
    if len(message.stop) > _MAX_STOPS:
        raise invalid("sampling.stop", f"more than {_MAX_STOPS}")
    for i, stop in enumerate(message.stop):
        if not 1 <= len(stop) <= _MAX_STOP_CHARACTERS:
            problem = f"must have 1 to {_MAX_STOP_CHARACTERS} characters"
            raise invalid(f"sampling.stop[{i}]", problem)
    return tuple(message.stop)


def _penalty(name: str, value: float) -> float:
    if not -_MAX_PENALTY <= value <= _MAX_PENALTY:
        raise invalid(f"sampling.{name}", f"must be {-_MAX_PENALTY:g} to {_MAX_PENALTY:g}")
    return value


def _repetition_penalty(message: chat_pb2.ChatSampling) -> float:
    low, high = _MIN_REPETITION_PENALTY, _MAX_REPETITION_PENALTY
    penalty = message.repetition_penalty
    if penalty and not low * 0.9999 <= penalty <= high:  # see the temperature
        raise invalid("sampling.repetition_penalty", f"must be 0, or {low} to {high:g}")
    return penalty or 1.0


def response(event: Event, model: ServedModel, total_s: float) -> chat_pb2.ChatResponse:
    """One event of an answer; `total_s` is how long the call has taken so far."""
    if isinstance(event, DeltaEvent):
        delta = chat_pb2.ChatDelta(text=event.text, tokens=event.tokens)
        return chat_pb2.ChatResponse(delta=delta)
    if isinstance(event, StartEvent):
        start = chat_pb2.ChatStart(
            model=convert.model_version(model.id),
            engine=event.engine,
            images=[_image_concepts(audit, model) for audit in event.images],
            phrases=[
                chat_pb2.PhraseCoverage(phrase=phrase, coverage=convert_coverage.coverage(coverage))
                for phrase, coverage in event.phrases.items()
            ],
            prompt_tokens=event.prompt_tokens,
            context_tokens=event.context_tokens,
        )
        return chat_pb2.ChatResponse(start=start)
    vision = convert.timings(event.vision)
    return chat_pb2.ChatResponse(
        end=chat_pb2.ChatEnd(
            finish=_FINISHES[event.finish],
            stop=event.stop,
            usage=chat_pb2.ChatUsage(
                prompt_tokens=event.prompt_tokens,
                image_tokens=event.image_tokens,
                completion_tokens=event.completion_tokens,
                context_tokens=event.context_tokens,
            ),
            timings=chat_pb2.ChatTimings(
                decode_us=vision.decode_us,
                queue_us=vision.queue_us,
                inference_us=vision.inference_us,
                prepare_us=round(event.prepare_s * 1e6),
                first_token_us=round(event.first_token_s * 1e6),
                total_us=round(total_s * 1e6),
            ),
        )
    )


def _image_concepts(audit: ImageAudit, model: ServedModel) -> chat_pb2.ImageConcepts:
    return chat_pb2.ImageConcepts(
        before=convert.scored(audit.before, model.concepts),
        after=convert.scored(audit.after, model.concepts),
        edited=[
            chat_pb2.EditedConcept(
                concept_id=entry.concept_id,
                name=model.concepts[entry.concept_id].name,
                before=entry.before,
                after=entry.after,
                edits=entry.edits,
            )
            for entry in audit.edited
        ],
        edited_total=audit.edited_total,
        coverage=convert_coverage.coverage(audit.coverage),
    )
