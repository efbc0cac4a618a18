"""The order in which a call is let in.

error sanitizer( authentication -> method policy -> admission -> deadline -> parse -> handler )

Authentication, policy and admission look at the headers alone: not a byte of the message of a
caller who is refused there has been read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

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


class Chain:
    """Answers every call of one port."""

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

    async def answer(self, method: str, handler: Handler, context: RpcContext) -> None:
        """Answers a call of `/package.Service/Method`, or ends it with the status of an error."""
        policy = policy_of(method)
        async with self._sanitizer.guarding(method, context):
            principal = self._identify(policy, context.invocation_metadata() or ())
            with self._admitted(method, principal, policy, context) as call:
                async with asyncio.timeout_at(call.deadline if policy.bounded else None):
                    await self._run(handler, context)

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

    async def _run(self, handler: Handler, context: RpcContext) -> None:
        read = handler.request_deserializer
        if handler.request_streaming:  # its messages are bounded one by one, by its window
            await self._send_all(handler.stream_stream(_messages(read, context), context), context)
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


async def _messages(read: Any, context: RpcContext) -> AsyncIterator[Message]:
    while isinstance(raw := await context.read(), bytes):
        yield parse(read, raw)
