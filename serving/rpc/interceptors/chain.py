"""The order in which a call is let in.

error sanitizer( authentication -> method policy -> admission -> deadline -> parse -> handler )

Authentication, policy and admission look at the headers alone: not a byte of the message of a
caller who is refused there has been read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc
from google.protobuf.message import Message

from serving.auth.tokens import ANONYMOUS, Authenticator, Principal
from serving.core.errors import ErrorKind, ServingError
from serving.core.limits import LimitsConfig
from serving.rpc.call_context import RpcContext, ServerCall, answering
from serving.rpc.interceptors.call_admission import CallAdmission
from serving.rpc.interceptors.error_sanitizer import ErrorSanitizer
from serving.rpc.interceptors.method_policy import Policy, policy_of
from serving.rpc.interceptors.parse_request import parse

Handler = Any  # grpc.RpcMethodHandler, whose fields grpc's types do not name

UNKNOWN_METHOD = "unknown"
"""Stands in metrics for every method that this server does not have: a caller chooses its name."""


class Chain(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Wraps every handler of the server."""

    def __init__(
        self,
        authenticator: Authenticator,
        admission: CallAdmission,
        sanitizer: ErrorSanitizer,
        limits: LimitsConfig,
    ) -> None:
        self._authenticator = authenticator
        self._admission = admission
        self._sanitizer = sanitizer
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
            principal = self._identify(policy, handler_call_details.invocation_metadata or ())
            handler = await continuation(handler_call_details)
        except Exception as error:
            return self._refusal(method, error)
        return self._answering(method, handler, policy, principal)

    async def refuse_unknown(self, context: RpcContext) -> None:
        """Ends a call of a method that this server does not have, unread."""
        try:
            self._identify(policy_of(UNKNOWN_METHOD), context.invocation_metadata() or ())
            raise ServingError(ErrorKind.UNIMPLEMENTED, "no such method")
        except Exception as error:
            await self._sanitizer.abort(UNKNOWN_METHOD, context, error)

    def _identify(self, policy: Policy, headers: Any) -> Principal:
        """The caller. Raises ServingError for one who may not call a method of this policy."""
        principal = ANONYMOUS if policy.public else self._authenticator.identify(headers)
        policy.check(principal)
        return principal

    def _refusal(self, method: str, error: Exception) -> Handler:
        async def refuse(_: AsyncIterator[bytes], context: RpcContext) -> None:
            await self._sanitizer.abort(method, context, error)

        # On the wire a unary call is a stream too, and the handler of a stream need not read.
        return grpc.stream_stream_rpc_method_handler(refuse)

    @contextlib.contextmanager
    def _admitted(
        self, method: str, principal: Principal, policy: Policy, context: RpcContext
    ) -> Iterator[ServerCall]:
        """Admits a call, sets its deadline and makes it the current one."""
        with self._admission.admit(principal, policy) as quota:
            now = asyncio.get_running_loop().time()
            seconds = policy.seconds(context.time_remaining(), self._limits)
            call = ServerCall(
                method=method,
                principal=principal,
                quota=quota,
                started=now,
                deadline=now + seconds,
            )
            with answering(call):
                yield call

    def _answering(
        self, method: str, handler: Handler, policy: Policy, principal: Principal
    ) -> Handler:
        async def answer(incoming: AsyncIterator[bytes], context: RpcContext) -> None:
            async with self._sanitizer.guarding(method, context):
                with self._admitted(method, principal, policy, context) as call:
                    async with asyncio.timeout_at(call.deadline if policy.bounded else None):
                        await self._run(handler, incoming, context)

        # gRPC would read the message of a unary call before it asks anyone.
        return grpc.stream_stream_rpc_method_handler(
            answer, response_serializer=handler.response_serializer
        )

    async def _run(
        self, handler: Handler, incoming: AsyncIterator[bytes], context: RpcContext
    ) -> None:
        read = handler.request_deserializer
        if handler.request_streaming:  # its messages are bounded one by one, by its window
            await self._send_all(handler.stream_stream(_parsed(read, incoming), context), context)
            return
        raw = await self._admission.receive(context)
        with self._admission.hold_bytes(len(raw)):
            request = parse(read, raw)
            del raw
            if handler.response_streaming:
                await self._send_all(handler.unary_stream(request, context), context)
            else:
                reply: Message = await handler.unary_unary(request, context)
                await self._send(reply, context)

    async def _send_all(self, replies: Any, context: RpcContext) -> None:
        if not isinstance(replies, AsyncGenerator):
            raise TypeError(f"the handler of a stream must be an async generator: {replies}")
        # aclosing: a caller that leaves ends the generator now, not when it is collected.
        async with contextlib.aclosing(replies):
            async for reply in replies:
                await self._send(reply, context)

    async def _send(self, reply: Message, context: RpcContext) -> None:
        try:
            async with asyncio.timeout(self._limits.stream_stall_s):
                await context.write(reply)
        except TimeoutError:
            raise ServingError(ErrorKind.EXPIRED, "the replies are not read") from None


async def _parsed(read: Any, incoming: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    async for raw in incoming:
        yield parse(read, raw)
