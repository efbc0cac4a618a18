"""`POST /v1/chat/completions`: what OpenAI's clients call, with steering."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from serving.core.errors import ServingError, invalid
from serving.http.door import Endpoint, HttpCall, Services
from serving.http.field_paths import FieldPaths
from serving.http.json_body import dump_json
from serving.http.json_messages import to_json
from serving.http.openai_chat_body import ChatCompletionBody
from serving.http.openai_chat_request import chat_request
from serving.http.problems import problem
from sparseclip.v1 import chat_pb2

CHAT = "/sparseclip.v1.ChatService/Chat"

_FINISHES = {chat_pb2.CHAT_FINISH_STOP: "stop", chat_pb2.CHAT_FINISH_LENGTH: "length"}


def chat_routes(services: Services) -> list[BaseRoute]:
    """The route of conversations."""

    def make(_: Request) -> HttpCall:
        return ChatCompletion(services).call

    return [Route("/v1/chat/completions", Endpoint(services, make), methods=["POST"])]


class ChatCompletion:
    """One conversation: its request, and its reply in one piece or as a stream."""

    def __init__(self, services: Services) -> None:
        self._service = services.chat
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._model = ""
        self._paths = FieldPaths()
        self._include_usage = False
        self.call = HttpCall(
            method=CHAT,
            request_deserializer=self._read,
            response_serializer=_serialize,
            unary_unary=self._whole,
            unary_stream=self._stream,
            error_event=_error_event,
        )
        """What the chain answers."""

    def _read(self, raw: bytes) -> chat_pb2.ChatRequest:
        body = ChatCompletionBody.read(raw)
        if body.stream_options is not None:
            if not body.stream:
                raise invalid("stream_options", "needs stream")
            self._include_usage = body.stream_options.include_usage
        self.call.response_streaming = body.stream
        request, self._paths = chat_request(body)
        return request

    async def _events(
        self, request: chat_pb2.ChatRequest, context: Any
    ) -> AsyncGenerator[chat_pb2.ChatResponse, None]:
        replies = self._service.Chat(request, context)
        async with contextlib.aclosing(replies):  # type: ignore[type-var]
            with self._paths.naming():
                async for event in replies:
                    if event.HasField("start"):
                        answering = event.start.model
                        self._model = f"{answering.name}@{answering.version}"
                    yield event

    async def _whole(self, request: chat_pb2.ChatRequest, context: Any) -> dict[str, Any]:
        text, start, end = "", chat_pb2.ChatStart(), chat_pb2.ChatEnd()
        async with contextlib.aclosing(self._events(request, context)) as events:
            async for event in events:
                text += event.delta.text
                start = event.start if event.HasField("start") else start
                end = event.end if event.HasField("end") else end
        message = {"role": "assistant", "content": text, "refusal": None}
        return {
            **self._head("chat.completion"),
            "choices": [
                {
                    "index": 0,
                    "message": message,
                    "finish_reason": _FINISHES[end.finish],
                    "logprobs": None,
                }
            ],
            "usage": _usage(end.usage),
            "sparseclip": {"start": to_json(start), "end": to_json(end)},
        }

    async def _stream(
        self, request: chat_pb2.ChatRequest, context: Any
    ) -> AsyncGenerator[dict[str, Any] | None, None]:
        """Chunks, and None for the end."""
        async with contextlib.aclosing(self._events(request, context)) as events:
            async for event in events:
                match event.WhichOneof("event"):
                    case "start":
                        first = self._chunk({"role": "assistant", "content": ""})
                        yield {**first, "sparseclip": to_json(event.start)}
                    case "delta":
                        yield self._chunk({"content": event.delta.text})
                    case "end":
                        last = self._chunk({}, _FINISHES[event.end.finish])
                        if self._include_usage:
                            yield last
                            usage = _usage(event.end.usage)
                            last = {**last, "choices": [], "usage": usage}
                        yield {**last, "sparseclip": to_json(event.end)}
        yield None

    def _chunk(self, delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        chunk = {**self._head("chat.completion.chunk"), "choices": [choice]}
        return {**chunk, "usage": None} if self._include_usage else chunk

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}


def _usage(usage: chat_pb2.ChatUsage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"image_tokens": usage.image_tokens},
    }


def _serialize(reply: dict[str, Any] | None) -> bytes:
    """A whole reply as JSON; a chunk, or the end of a stream, as an event."""
    if reply is None:
        return b"data: [DONE]\n\n"
    text = dump_json(reply)
    return text if reply["object"] == "chat.completion" else b"data: " + text + b"\n\n"


def _error_event(error: ServingError) -> bytes:
    """What a stream that has begun says of an error: OpenAI's clients raise it."""
    return b"data: " + dump_json(problem(error)) + b"\n\n"
