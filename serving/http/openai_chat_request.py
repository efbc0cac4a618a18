"""From the body of chat completions to the message of ChatService."""

from __future__ import annotations

import secrets
from typing import Any

from serving.core.errors import invalid
from serving.http.data_uri import image_of
from serving.http.field_paths import FieldPaths
from serving.http.json_messages import fill, unicode_text
from serving.http.openai_chat_body import (
    ChatCompletionBody,
    ChatMessageBody,
    ContentPart,
    SteeringBody,
    SteeringEditBody,
)
from serving.http.system_routes import model_selector
from sparseclip.v1 import chat_pb2, types_pb2

_ROLES = {
    "system": chat_pb2.CHAT_ROLE_SYSTEM,
    "developer": chat_pb2.CHAT_ROLE_SYSTEM,
    "user": chat_pb2.CHAT_ROLE_USER,
    "assistant": chat_pb2.CHAT_ROLE_ASSISTANT,
}
_OPS = {"set", "add", "scale", "ablate"}
_FRAMINGS = {
    "crop": types_pb2.IMAGE_FRAMING_CROP,
    "pad": types_pb2.IMAGE_FRAMING_PAD,
    None: types_pb2.IMAGE_FRAMING_UNSPECIFIED,
}
_SAMPLING = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)


def chat_request(body: ChatCompletionBody) -> tuple[chat_pb2.ChatRequest, FieldPaths]:
    """The request, and the caller's names of its fields. Raises ServingError naming the field."""
    paths = FieldPaths()
    request = chat_pb2.ChatRequest()
    selector = model_selector(body.model)
    request.model.name, request.model.version = selector.name, selector.version
    for i, message in enumerate(body.messages):
        _add_message(request, message, i, paths)
    if body.steering:
        _steer_last(request, body.steering, body.messages, paths)
    _set_sampling(request.sampling, body)
    paths.add("sampling", "")
    return request, paths


def _add_message(
    request: chat_pb2.ChatRequest, body: ChatMessageBody, i: int, paths: FieldPaths
) -> None:
    message = request.messages.add(role=_ROLES[body.role])
    ours, theirs = f"messages[{i}]", f"messages[{i}].content"
    paths.add(f"{ours}.text", theirs)
    paths.add(f"{ours}.images", theirs)
    texts = []
    for k, part in enumerate(body.content):
        at = f"{theirs}[{k}]"
        if part.type == "text":
            texts.append(_text(part, at))
            continue
        image = _image(part, at)
        paths.add(f"{ours}.images[{len(message.images)}]", at)
        paths.add(f"{ours}.images[{len(message.images)}].data", f"{at}.image_url.url")
        message.images.append(image)
    message.text = "\n".join(texts)


def _text(part: ContentPart, at: str) -> str:
    if part.text is None:
        raise invalid(f"{at}.text", "is needed")
    for name in ("image_url", "steering", "framing"):
        if getattr(part, name) is not None:
            raise invalid(f"{at}.{name}", "a text has none")
    return unicode_text(part.text, f"{at}.text")


def _image(part: ContentPart, at: str) -> chat_pb2.ChatImage:
    if part.image_url is None:
        raise invalid(f"{at}.image_url", "is needed")
    if part.text is not None:
        raise invalid(f"{at}.text", "an image has none")
    image = chat_pb2.ChatImage(
        data=image_of(part.image_url.url, f"{at}.image_url.url"),
        framing=_FRAMINGS[part.framing],
    )
    if part.steering:
        _set_plan(image.steering, part.steering, f"{at}.steering")
    return image


def _steer_last(
    request: chat_pb2.ChatRequest,
    steering: SteeringBody,
    messages: list[ChatMessageBody],
    paths: FieldPaths,
) -> None:
    """Steers all images of the last message that has some, except those that say `false`."""
    for i in reversed(range(len(request.messages))):
        if request.messages[i].images:
            break
    else:
        raise invalid("steering", "the conversation has no image")
    parts = [part for part in messages[i].content if part.type == "image_url"]
    for k, (part, image) in enumerate(zip(parts, request.messages[i].images, strict=True)):
        if part.steering:
            raise invalid("steering", "cannot be combined with that of a single image")
        if part.steering is False:
            continue
        _set_plan(image.steering, steering, "steering")
        paths.add(f"messages[{i}].images[{k}].steering", "steering")


def _set_plan(plan: chat_pb2.SteeringPlan, body: SteeringBody, at: str) -> None:
    edits = [_edit(edit, f"{at}.edits[{k}]") for k, edit in enumerate(body.edits)]
    fill(plan, {"edits": edits, "strength": body.strength}, at)


def _edit(body: SteeringEditBody, at: str) -> dict[str, Any]:
    """The edit as protobuf's JSON."""
    if body.op.lower() not in _OPS:
        raise invalid(f"{at}.op", f"must be one of {', '.join(sorted(_OPS))}")
    edit = body.model_dump(exclude_none=True, exclude={"concept", "op"})
    if body.concept is not None:
        name = "concept_id" if isinstance(body.concept, int) else "concept_name"
        if name in edit:
            raise invalid(f"{at}.concept", f"cannot be combined with {name}")
        edit[name] = body.concept
    return {**edit, "op": f"STEERING_OP_{body.op.upper()}"}


def _set_sampling(sampling: chat_pb2.ChatSampling, body: ChatCompletionBody) -> None:
    longest = body.max_completion_tokens or body.max_tokens
    if longest != (body.max_tokens or longest):
        raise invalid("max_tokens", "differs from max_completion_tokens")
    data: dict[str, Any] = {name: getattr(body, name) for name in _SAMPLING}
    data["max_tokens"] = longest
    data["stop"] = [body.stop] if isinstance(body.stop, str) else body.stop
    # Without one, the same request has another answer each time, if its temperature is above 0.
    seed = secrets.randbits(32) if body.seed is None else body.seed
    fill(sampling, {**data, "seed": seed % 2**32})
