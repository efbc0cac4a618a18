"""The order in which a call is let in.

sanitiser( principal -> method policy -> deadline -> admission -> parse -> handler )

Principal and policy are settled on the headers alone: a caller who is refused there has not had a
byte of its message read.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from serving.auth.tokens import Principal
from serving.core.errors import ErrorKind, ServingError
from serving.core.limits import LimitsConfig
from serving.rpc.call import ServerCall, answering
from serving.rpc.interceptors.admission import CallAdmission
from serving.rpc.interceptors.authenticate import Authenticator
from serving.rpc.interceptors.deadline import deadline_of
from serving.rpc.interceptors.error_sanitizer import ErrorSanitizer
from serving.rpc.interceptors.parse import parse
from serving.rpc.interceptors.policy import Policy, policy_of

Handler = Any  # grpc.RpcMethodHandler, whose fields grpc's types do not name
Context = grpc.aio.ServicerContext[Any, Any]


class Chain(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Wraps every handler of the server."""

    def __init__(
        self,
        authenticator: Authenticator,
        gate: CallAdmission,
        sanitiser: ErrorSanitizer,
        limits: LimitsConfig,
    ) -> None:
        self._authenticator = authenticator
        self._gate = gate
        self._sanitiser = sanitiser
        self._limits = limits

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Gives the wrapped handler, or one that refuses the call unread."""
        method = str(handler_call_details.method)
        policy = policy_of(method)
        try:
            principal = self._authenticator.identify(handler_call_details, policy)
            policy.check(principal)
            handler = await continuation(handler_call_details)
        except Exception as error:
            return self._refusal(method, error)
        if handler is None:  # grpc answers UNIMPLEMENTED
            return None
        if handler.request_streaming or handler.response_streaming:
            return self._streaming(method, handler, policy, principal)
        return self._unary(method, handler, policy, principal)

    def _refusal(self, method: str, error: Exception) -> Handler:
        async def refuse(_: AsyncIterator[bytes], context: Context) -> None:
            await self._sanitiser.abort(method, context, error)

        # On the wire unary calls are streams too, and a stream's handler need not read.
        return grpc.stream_stream_rpc_method_handler(refuse)

    def _unary(
        self, method: str, handler: Handler, policy: Policy, principal: Principal
    ) -> Handler:
        async def answer(raw: bytes, context: Context) -> Message:
            async with self._sanitiser.guarding(method, context):
                with self._gate.admitting(principal, len(raw), policy) as quota:
                    started, deadline = deadline_of(context, policy, self._limits)
                    request = parse(handler.request_deserializer, raw)
                    call = ServerCall(
                        method=method,
                        principal=principal,
                        quota=quota,
                        started=started,
                        deadline=deadline,
                    )
                    with answering(call):
                        async with asyncio.timeout_at(deadline):
                            reply: Message = await handler.unary_unary(request, context)
                            return reply
            raise AssertionError("unreachable")

        return grpc.unary_unary_rpc_method_handler(
            answer, response_serializer=handler.response_serializer
        )

    def _streaming(
        self, method: str, handler: Handler, policy: Policy, principal: Principal
    ) -> Handler:
        async def answer(incoming: Any, context: Context) -> None:
            async with self._sanitiser.guarding(method, context):
                size = 0 if handler.request_streaming else len(incoming)
                with self._gate.admitting(principal, size, policy) as quota:
                    started, deadline = deadline_of(context, policy, self._limits)
                    call = ServerCall(
                        method=method,
                        principal=principal,
                        quota=quota,
                        started=started,
                        deadline=deadline,
                    )
                    with answering(call):
                        async with asyncio.timeout_at(deadline if policy.bounded else None):
                            await self._run_stream(handler, incoming, context)

        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                answer, response_serializer=handler.response_serializer
            )
        return grpc.unary_stream_rpc_method_handler(
            answer, response_serializer=handler.response_serializer
        )

    async def _run_stream(self, handler: Handler, incoming: Any, context: Context) -> None:
        read = handler.request_deserializer
        if handler.request_streaming:
            replies = handler.stream_stream(_parsed(read, incoming), context)
        else:
            replies = handler.unary_stream(parse(read, incoming), context)
        if not inspect.isasyncgen(replies):
            raise TypeError(f"the handler of a stream must be an async generator: {handler}")
        async with contextlib.aclosing(replies):
            async for reply in replies:
                try:
                    async with asyncio.timeout(self._limits.stream_stall_s):
                        await context.write(reply)
                except TimeoutError:
                    raise ServingError(ErrorKind.EXPIRED, "the replies are not read") from None


async def _parsed(read: Any, incoming: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    async for raw in incoming:
        yield parse(read, raw)
