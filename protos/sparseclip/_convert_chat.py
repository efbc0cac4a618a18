"""Between ChatService's messages and the client's types. Pure functions, no calls."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from google.protobuf.message import Message

from sparseclip import _convert as convert
from sparseclip import chat
from sparseclip._items import ImageInput, ItemError, read_image
from sparseclip.errors import CallError
from sparseclip.steering import Edit, Steering
from sparseclip.v1 import chat_pb2, types_pb2

_ROLES: dict[str, chat_pb2.ChatRole] = {
    "system": chat_pb2.CHAT_ROLE_SYSTEM,
    "user": chat_pb2.CHAT_ROLE_USER,
    "assistant": chat_pb2.CHAT_ROLE_ASSISTANT,
}
_OPS: dict[str, chat_pb2.SteeringOp] = {
    "SET": chat_pb2.STEERING_OP_SET,
    "ADD": chat_pb2.STEERING_OP_ADD,
    "SCALE": chat_pb2.STEERING_OP_SCALE,
    "ABLATE": chat_pb2.STEERING_OP_ABLATE,
}
_FINISHES: dict[int, chat.ChatFinish] = {
    chat_pb2.CHAT_FINISH_STOP: "stop",
    chat_pb2.CHAT_FINISH_LENGTH: "length",
}


def conversation(
    messages: str | Sequence[chat.ChatMessage],
    images: Sequence[ImageInput | chat.ChatImage],
    steering: Steering | None,
) -> Sequence[chat.ChatMessage]:
    """A question about images as a conversation of one message; a conversation as it is."""
    if isinstance(images, bytes | str):
        raise TypeError("images must be a list")
    if isinstance(messages, str):
        attached = [
            image
            if isinstance(image, chat.ChatImage)
            else chat.ChatImage(image=image, steering=steering)
            for image in images
        ]
        return [chat.ChatMessage(text=messages, images=attached)]
    if images or steering:
        raise ValueError("images, steering: of a conversation they are in its messages")
    return messages


def request(
    selector: types_pb2.ModelSelector,
    messages: Sequence[chat.ChatMessage],
    sampling: chat.ChatSampling,
) -> chat_pb2.ChatRequest:
    """The message. Raises CallError for an image that cannot be read, and for numbers that no
    field holds."""
    try:
        return chat_pb2.ChatRequest(
            model=selector,
            messages=[_message(message) for message in messages],
            sampling=chat_pb2.ChatSampling(
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=sampling.seed,
            ),
        )
    except ItemError as error:
        raise CallError(error.status.code, error.status.message) from None
    except ValueError as error:
        raise CallError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None


def _message(message: chat.ChatMessage) -> chat_pb2.ChatMessage:
    return chat_pb2.ChatMessage(
        role=_ROLES[message.role],
        text=message.text,
        images=[_image(image) for image in message.images],
    )


def _image(image: ImageInput | chat.ChatImage) -> chat_pb2.ChatImage:
    attached = image if isinstance(image, chat.ChatImage) else chat.ChatImage(image=image)
    steering = attached.steering or Steering()
    return chat_pb2.ChatImage(
        data=read_image(attached.image),
        steering=chat_pb2.SteeringPlan(
            edits=[_edit(edit) for edit in steering.edits], strength=steering.strength
        ),
    )


def _edit(edit: Edit) -> chat_pb2.SteeringEdit:
    return chat_pb2.SteeringEdit(
        concept_id=edit.concept if isinstance(edit.concept, int) else None,
        concept_name=edit.concept if isinstance(edit.concept, str) else None,
        phrase=edit.phrase,
        op=_OPS[edit.op],
        value=edit.value,
        patches=edit.patches,
        top=edit.top,
    )


def event(message: Message) -> chat.ChatEvent | None:
    """An event; None for one that this client does not know."""
    assert isinstance(message, chat_pb2.ChatResponse)
    match message.WhichOneof("event"):
        case "start":
            return chat.ChatStart(
                model=convert.model(message.start.model),
                engine=message.start.engine,
                images=tuple(_concepts(image) for image in message.start.images),
            )
        case "delta":
            return chat.ChatDelta(text=message.delta.text, tokens=message.delta.tokens)
        case "end":
            return _end(message.end)
    return None


def _end(message: chat_pb2.ChatEnd) -> chat.ChatEnd:
    usage, timings = message.usage, message.timings
    return chat.ChatEnd(
        finish=_FINISHES.get(message.finish, ""),
        usage=chat.ChatUsage(
            prompt_tokens=usage.prompt_tokens,
            image_tokens=usage.image_tokens,
            completion_tokens=usage.completion_tokens,
        ),
        timings=chat.ChatTimings(
            decode_us=timings.decode_us,
            queue_us=timings.queue_us,
            inference_us=timings.inference_us,
            prepare_us=timings.prepare_us,
            first_token_us=timings.first_token_us,
            total_us=timings.total_us,
        ),
    )


def _concepts(message: chat_pb2.ImageConcepts) -> chat.ImageConcepts:
    return chat.ImageConcepts(
        before=tuple(convert.scored(entry) for entry in message.before),
        after=tuple(convert.scored(entry) for entry in message.after),
        edited=tuple(
            chat.EditedConcept(
                concept_id=entry.concept_id,
                name=entry.name,
                before=entry.before,
                after=entry.after,
                edits=tuple(entry.edits),
            )
            for entry in message.edited
        ),
        edited_total=message.edited_total,
    )
