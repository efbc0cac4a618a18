"""Conversations for tests, and a language model whose steps a test lets go one by one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from grpc_health.v1 import health_pb2

from sparseclip.v1 import chat_pb2, chat_pb2_grpc
from tests.serving.support.running_server import PNG, Running

CHAT = "/sparseclip.v1.ChatService/Chat"
SET, ADD = chat_pb2.STEERING_OP_SET, chat_pb2.STEERING_OP_ADD
SCALE, ABLATE = chat_pb2.STEERING_OP_SCALE, chat_pb2.STEERING_OP_ABLATE

Edit = chat_pb2.SteeringEdit
Replies = list[chat_pb2.ChatResponse]


def image(*edits: Edit, data: bytes = PNG, **plan: Any) -> chat_pb2.ChatImage:
    return chat_pb2.ChatImage(data=data, steering=chat_pb2.SteeringPlan(edits=edits, **plan))


def user(text: str, *images: chat_pb2.ChatImage) -> chat_pb2.ChatMessage:
    return chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, text=text, images=images)


def question(
    *edits: Edit, data: bytes = PNG, text: str = "What is this?", **sampling: Any
) -> chat_pb2.ChatRequest:
    """One question about one image, answered in 16 tokens."""
    return chat_pb2.ChatRequest(
        messages=[user(text, image(*edits, data=data))],
        sampling=chat_pb2.ChatSampling(**{"max_tokens": 16, **sampling}),
    )


def chat(running: Running, request: chat_pb2.ChatRequest, **options: Any) -> Any:
    """The call, begun."""
    stub: Any = chat_pb2_grpc.ChatServiceStub(running.channel)  # type: ignore[no-untyped-call]
    options.setdefault("timeout", 60)
    return stub.Chat(request, metadata=running.metadata, **options)


async def replies(running: Running, request: chat_pb2.ChatRequest, **options: Any) -> Replies:
    """All events of a conversation."""
    return [reply async for reply in chat(running, request, **options)]


def text_of(events: Replies) -> str:
    return "".join(event.delta.text for event in events)


def without_times(events: Replies) -> Replies:
    """The events without their times: those of two equal conversations are equal."""
    last = chat_pb2.ChatResponse.FromString(events[-1].SerializeToString())
    last.end.ClearField("timings")
    return [*events[:-1], last]


async def chat_serves(running: Running) -> bool:
    """What health says of the chat service."""
    request = health_pb2.HealthCheckRequest(service="sparseclip.v1.ChatService")
    reply = await running.health.Check(request, timeout=5)
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def chats_in_flight(running: Running) -> float:
    return running.gauges()["sparseclip_chats_in_flight{}"]


class Steps:
    """The language model of a server: a test holds its steps back, and sees how large they are."""

    def __init__(self, running: Running) -> None:
        self.llm: Any = running.server.registry.models[0].chat._model.engine._model
        self.free = threading.Semaphore(0)
        self.batches: list[int] = []
        """Conversations in each step, prompts included."""
        self.error: Exception | None = None
        """Raised by the next steps."""


@contextlib.contextmanager
def stepping(running: Running) -> Iterator[Steps]:
    """Inside the block no step is made unless `free` is released."""
    steps = Steps(running)
    forward = steps.llm.forward

    def gated(*args: Any, **options: Any) -> Any:
        assert steps.free.acquire(timeout=60)
        inputs: Any = options.get("input_ids", options.get("inputs_embeds"))
        steps.batches.append(len(inputs))
        if steps.error is not None:
            raise steps.error
        return forward(*args, **options)

    steps.llm.forward = gated
    try:
        yield steps
    finally:
        steps.llm.forward = forward
        steps.free.release(100_000)
