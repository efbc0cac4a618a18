"""Between ChatService's messages and the client's types. Pure functions, no calls."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from google.protobuf.message import Message

from sparseclip._arguments import instances
from sparseclip._convert import (
    coverage_from_proto,
    framing_to_proto,
    model_version_from_proto,
    scored_concept_from_proto,
)
from sparseclip._image_files import ImageInput, read_image
from sparseclip._items import check_image_list, image_item
from sparseclip.chat import (
    ChatDelta,
    ChatEnd,
    ChatEvent,
    ChatFinish,
    ChatImage,
    ChatMessage,
    ChatSampling,
    ChatStart,
    ChatTimings,
    ChatUsage,
    EditedConcept,
    ImageConcepts,
    PhraseCoverage,
)
from sparseclip.errors import CallError, ItemError
from sparseclip.model_info import ModelInfo
from sparseclip.steering import Edit, Steering, check_steering
from sparseclip.v1 import chat_pb2, types_pb2

_ROLES: dict[str, chat_pb2.ChatRole] = {
    "system": chat_pb2.CHAT_ROLE_SYSTEM,
    "user": chat_pb2.CHAT_ROLE_USER,
    "assistant": chat_pb2.CHAT_ROLE_ASSISTANT,
}
_EDIT_OPS: dict[str, chat_pb2.SteeringOp] = {
    "SET": chat_pb2.STEERING_OP_SET,
    "ADD": chat_pb2.STEERING_OP_ADD,
    "SCALE": chat_pb2.STEERING_OP_SCALE,
    "ABLATE": chat_pb2.STEERING_OP_ABLATE,
}
_FINISHES: dict[int, ChatFinish] = {
    chat_pb2.CHAT_FINISH_STOP: "stop",
    chat_pb2.CHAT_FINISH_LENGTH: "length",
}


def to_messages(
    messages: str | Sequence[ChatMessage],
    images: Sequence[ImageInput | ChatImage],
    steering: Steering | None,
) -> Sequence[ChatMessage]:
    """Makes a conversation of a question about images; returns a conversation as it is.

    Raises TypeError, naming the argument, for one of another type such as a lone image, and
    ValueError for a conversation that comes with images or edits beside those in its messages.
    """
    check_steering(steering)
    check_image_list(images)
    if isinstance(messages, str):
        attached = [
            image if isinstance(image, ChatImage) else ChatImage(image=image, steering=steering)
            for image in images
        ]
        return [ChatMessage(text=messages, images=attached)]
    if images or steering:
        raise ValueError("images, steering: those of a conversation belong in its messages")
    return instances(messages, ChatMessage, "messages")


def chat_request(
    selector: types_pb2.ModelSelector,
    messages: Sequence[ChatMessage],
    sampling: ChatSampling,
    info: ModelInfo | None = None,
) -> chat_pb2.ChatRequest:
    """The request of a conversation with a model that `info` describes, if there are images.

    Raises CallError naming an image that cannot be read, and for a number that its field cannot
    hold.
    """
    try:
        return chat_pb2.ChatRequest(
            model=selector,
            messages=[_message_to_proto(message, info) for message in messages],
            sampling=chat_pb2.ChatSampling(
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=sampling.seed,
                stop=sampling.stop,
                presence_penalty=sampling.presence_penalty,
                frequency_penalty=sampling.frequency_penalty,
                repetition_penalty=sampling.repetition_penalty,
            ),
        )
    except ValueError as error:
        raise CallError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None


def _message_to_proto(message: ChatMessage, info: ModelInfo | None) -> chat_pb2.ChatMessage:
    return chat_pb2.ChatMessage(
        role=_ROLES[message.role],
        text=message.text,
        images=[
            _image_to_proto(image, position, info) for position, image in enumerate(message.images)
        ],
    )


def _image_to_proto(
    image: ImageInput | ChatImage, position: int, info: ModelInfo | None
) -> chat_pb2.ChatImage:
    attached = image if isinstance(image, ChatImage) else ChatImage(image=image)
    steering = attached.steering or Steering()
    if info is None:
        raise ValueError("info: images need it")
    try:
        data = read_image(attached.image, info, attached.framing)
    except ItemError as error:
        source = image_item(attached.image, position).source
        raise CallError(error.status.code, f"{source}: {error.status.message}") from None
    return chat_pb2.ChatImage(
        data=data,
        steering=chat_pb2.SteeringPlan(
            edits=[_edit_to_proto(edit) for edit in steering.edits], strength=steering.strength
        ),
        framing=framing_to_proto(attached.framing),
    )


def _edit_to_proto(edit: Edit) -> chat_pb2.SteeringEdit:
    return chat_pb2.SteeringEdit(
        concept_id=edit.concept if isinstance(edit.concept, int) else None,
        concept_name=edit.concept if isinstance(edit.concept, str) else None,
        phrase=edit.phrase,
        op=_EDIT_OPS[edit.op],
        value=edit.value,
        patches=edit.patches,
        top=edit.top,
    )


def event_from_proto(message: Message) -> ChatEvent | None:
    """An event of an answer, or None for one that this client does not know."""
    assert isinstance(message, chat_pb2.ChatResponse)
    match message.WhichOneof("event"):
        case "start":
            return ChatStart(
                model=model_version_from_proto(message.start.model),
                engine=message.start.engine,
                images=tuple(_image_concepts_from_proto(image) for image in message.start.images),
                phrases=tuple(
                    PhraseCoverage(
                        phrase=entry.phrase, coverage=coverage_from_proto(entry.coverage)
                    )
                    for entry in message.start.phrases
                ),
                prompt_tokens=message.start.prompt_tokens,
                context_tokens=message.start.context_tokens,
            )
        case "delta":
            return ChatDelta(text=message.delta.text, tokens=message.delta.tokens)
        case "end":
            return _end_from_proto(message.end)
    return None


def _end_from_proto(message: chat_pb2.ChatEnd) -> ChatEnd:
    usage, timings = message.usage, message.timings
    return ChatEnd(
        finish=_FINISHES.get(message.finish, ""),
        stop=message.stop,
        usage=ChatUsage(
            prompt_tokens=usage.prompt_tokens,
            image_tokens=usage.image_tokens,
            completion_tokens=usage.completion_tokens,
            context_tokens=usage.context_tokens,
        ),
        timings=ChatTimings(
            decode_us=timings.decode_us,
            queue_us=timings.queue_us,
            inference_us=timings.inference_us,
            prepare_us=timings.prepare_us,
            first_token_us=timings.first_token_us,
            total_us=timings.total_us,
        ),
    )


def _image_concepts_from_proto(message: chat_pb2.ImageConcepts) -> ImageConcepts:
    return ImageConcepts(
        before=tuple(scored_concept_from_proto(entry) for entry in message.before),
        after=tuple(scored_concept_from_proto(entry) for entry in message.after),
        edited=tuple(
            EditedConcept(
                concept_id=entry.concept_id,
                name=entry.name,
                before=entry.before,
                after=entry.after,
                edits=tuple(entry.edits),
            )
            for entry in message.edited
        ),
        edited_total=message.edited_total,
        coverage=coverage_from_proto(message.coverage),
    )
