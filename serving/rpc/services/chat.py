"""ChatService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from serving.chat.concurrency import ChatAdmission
from serving.core.limits import LimitsConfig
from serving.core.metrics import Metrics
from serving.models.registry import Registry
from serving.rpc.call import current_call
from serving.rpc.convert import chat as convert_chat
from sparseclip.v1 import chat_pb2, chat_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class ChatService(chat_pb2_grpc.ChatServiceServicer):
    """Conversations about images, under edits of their concepts."""

    def __init__(self, registry: Registry, limits: LimitsConfig, metrics: Metrics) -> None:
        self._registry = registry
        self._limits = limits
        self._room = ChatAdmission(limits.chats_in_flight, metrics.chat.in_flight)

    async def Chat(  # noqa: N802
        self, request: chat_pb2.ChatRequest, context: Context
    ) -> AsyncIterator[chat_pb2.ChatResponse]:
        """Answers a conversation's last message as the answer is made."""
        asked = convert_chat.chat_call(request, self._limits)
        call = current_call()
        with self._registry.lease(asked.selector) as model, self._room.admit():
            async with aclosing(model.chat.converse(asked, call.deadline)) as events:
                async for event in events:
                    yield convert_chat.response(event, model, call.elapsed)
