"""The order in which a call is let in.

error sanitizer( authentication -> method policy -> admission -> deadline -> parse -> handler )

All up to the deadline looks at the headers alone: not a byte of the message of a caller who is
refused there has been read. It never waits, so that refusing a call costs no task of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Protocol

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

HeaderCheck = Callable[[Iterable[tuple[str, str | bytes]], float], None]
"""Is given the headers of a call and its deadline in the event loop's time; raises ServingError."""

Serializer = Callable[[Message], bytes]


class CallTracer(Protocol):
    """Traces calls."""

    def call(
        self, method: str, headers: Iterable[tuple[str, str | bytes]], door: str
    ) -> contextlib.AbstractContextManager[None]:
        """Traces the call that a block answers; see serving.core.open_telemetry.Tracer."""


SMALL_REPLY_BYTES = 16 * 1024
"""A reply up to this size goes out together with the status of its call. Of a larger one the server
waits until the caller reads it."""

_LARGE_BYTES = 256 * 1024
"""Up to this size a message that is not protobuf's is read between two turns of the event loop."""

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
        header_checks: Mapping[str, HeaderCheck],
        tracer: CallTracer | None = None,
    ) -> None:
        """`header_checks` has the check of each method that can refuse a call by its headers.
        Without a `tracer` no call is traced."""
        self._authenticator = authenticator
        self._admission = admission
        self._sanitizer = sanitizer
        self._limits = limits
        self._header_checks = header_checks
        self._tracer = tracer

    def admit(self, method: str, context: RpcContext) -> ServerCall:
        """Lets in a call of `/package.Service/Method` by its headers. Raises ServingError."""
        policy = policy_of(method)
        headers = context.invocation_metadata() or ()
        principal = self._identify(policy, headers)
        self._admission.check_open(policy)
        now = asyncio.get_running_loop().time()
        seconds = policy.seconds(context.time_remaining(), self._limits)
        if check := self._header_checks.get(method):
            check(headers, now + seconds)
        with contextlib.ExitStack() as held:
            quota = held.enter_context(self._admission.admit(principal, policy))
            return ServerCall(
                method=method,
                principal=principal,
                quota=quota,
                started=now,
                deadline=now + seconds,
                bounded=policy.bounded,
                leave=held.pop_all().close,
            )

    async def answer(
        self, call: ServerCall, handler: Handler, context: RpcContext, *, return_last: bool
    ) -> bytes | None:
        """Answers a call that was let in, or ends it with the status of an error.

        With `return_last`, a single reply that is small is returned: it goes out together with the
        status, when the call holds nothing any more.
        """
        with self._traced(call, context):
            async with self._sanitizer.guarding(call.method, context):
                try:
                    return await self._in_time(call, handler, context, return_last)
                finally:
                    call.leave()
        return None

    async def _in_time(
        self, call: ServerCall, handler: Handler, context: RpcContext, return_last: bool
    ) -> bytes | None:
        policy = policy_of(call.method)
        with answering(call):
            async with asyncio.timeout_at(call.deadline if call.bounded else None):
                return await self._run(policy, handler, context, return_last)

    def _traced(
        self, call: ServerCall, context: RpcContext
    ) -> contextlib.AbstractContextManager[None]:
        if self._tracer is None or not policy_of(call.method).admission:
            return contextlib.nullcontext()
        headers = context.invocation_metadata() or ()
        return self._tracer.call(call.method, headers, getattr(context, "door", "grpc"))

    async def refuse(self, method: str, context: RpcContext, error: Exception) -> None:
        """Ends a call that was not let in."""
        await self._sanitizer.abort(method, context, self._sanitizer.sanitize(error))

    async def refuse_unknown(self, context: RpcContext) -> None:
        """Ends a call of a method that this server does not have, unread."""
        try:
            self._identify(policy_of(UNKNOWN_METHOD), context.invocation_metadata() or ())
            raise ServingError(ErrorKind.UNIMPLEMENTED, "no such method")
        except Exception as error:
            await self.refuse(UNKNOWN_METHOD, context, error)

    def identify(self, method: str, headers: Any) -> Principal:
        """Who sends `headers`, for what is not a call. Raises ServingError for one who may not call
        `/package.Service/Method`."""
        return self._identify(policy_of(method), headers)

    def _identify(self, policy: Policy, headers: Any) -> Principal:
        """The caller. Raises ServingError for one who may not call a method of this policy."""
        principal = ANONYMOUS if policy.public else self._authenticator.identify(headers)
        policy.check(principal)
        return principal

    async def _run(
        self, policy: Policy, handler: Handler, context: RpcContext, return_last: bool
    ) -> bytes | None:
        read, write = handler.request_deserializer, handler.response_serializer
        if handler.request_streaming:  # its messages are bounded one by one, by its window
            replies = handler.stream_stream(_messages(read, context), context)
            await self._send_all(replies, write, context)
            return None
        raw = await self._admission.receive(context, policy)
        with self._admission.hold_bytes(len(raw)):
            if len(raw) > _LARGE_BYTES and getattr(handler, "reads_in_thread", False):
                request = await asyncio.to_thread(parse, read, raw)
            else:
                request = parse(read, raw)
            del raw
            if handler.response_streaming:
                await self._send_all(handler.unary_stream(request, context), write, context)
                return None
            reply: bytes = write(await handler.unary_unary(request, context))
            if return_last and len(reply) <= SMALL_REPLY_BYTES:
                return reply
            await self._send(reply, context)
            return None

    async def _send_all(self, replies: Any, write: Serializer, context: RpcContext) -> None:
        if not isinstance(replies, AsyncGenerator):
            raise TypeError(f"the handler of a stream must be an async generator: {replies}")
        # aclosing: a caller that leaves ends the generator now, not when it is collected.
        async with contextlib.aclosing(replies):
            async for reply in replies:
                await self._send(write(reply), context)

    async def _send(self, reply: bytes, context: RpcContext) -> None:
        try:
            async with asyncio.timeout(self._limits.stream_stall_s):
                await context.write(reply)
        except TimeoutError:
            raise ServingError(ErrorKind.EXPIRED, "the replies are not read") from None


async def _messages(read: Any, context: RpcContext) -> AsyncIterator[Message]:
    while isinstance(raw := await context.read(), bytes):
        yield parse(read, raw)
