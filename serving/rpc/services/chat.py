"""The handler of ChatService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from serving.core.limits import LimitsConfig
from serving.core.metrics import Metrics
from serving.models.registry import Registry
from serving.rpc.call_context import RpcContext, current_call
from serving.rpc.convert import chat as convert_chat
from serving.rpc.interceptors.call_admission import ChatAdmission
from sparseclip.v1 import chat_pb2, chat_pb2_grpc


class ChatService(chat_pb2_grpc.ChatServiceServicer):
    """Conversations about images, under edits of their concepts."""

    def __init__(self, registry: Registry, limits: LimitsConfig, metrics: Metrics) -> None:
        self._registry = registry
        self._limits = limits
        self._admission = ChatAdmission(limits.chats_in_flight, metrics.chat.in_flight)

    async def Chat(  # noqa: N802
        self, request: chat_pb2.ChatRequest, context: RpcContext
    ) -> AsyncIterator[chat_pb2.ChatResponse]:
        """Answers a conversation's last message, and sends the answer while it is generated."""
        chat = convert_chat.chat_call(request, self._limits)
        call = current_call()
        with self._registry.lease(chat.selector) as model, self._admission.admit():
            for image in chat.images:
                model.check_framing(image.framing, f"{image.at}.framing")
            async with aclosing(model.chat.converse(chat, call.deadline)) as events:
                async for event in events:
                    yield convert_chat.response(event, model, call.elapsed)
