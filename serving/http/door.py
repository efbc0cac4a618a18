"""One request over HTTP becomes one call of the chain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from serving.auth.tokens import Principal
from serving.core.errors import ServingError
from serving.core.limits import LimitsConfig
from serving.core.metrics import Metrics
from serving.http.http_context import HttpContext, RefusedCallError
from serving.http.json_body import JSON_TYPE
from serving.models.registry import Registry
from serving.rpc.interceptors.chain import Chain
from serving.rpc.services.chat import ChatService
from serving.rpc.services.concepts import ConceptService
from serving.rpc.services.embedding import EmbeddingService

EVENTS_TYPE = "text/event-stream"


@dataclass(frozen=True, kw_only=True)
class Services:
    """What answers the calls of the public port, and what they share."""

    chain: Chain
    embedding: EmbeddingService
    concepts: ConceptService
    chat: ChatService
    registry: Registry
    limits: LimitsConfig
    metrics: Metrics
    is_serving: Callable[[], bool]
    """Whether health says SERVING."""


@dataclass(kw_only=True)
class HttpCall:
    """How one request is read and answered: what grpc's handlers are for a call of gRPC."""

    method: str
    """`/package.Service/Method` whose rules the call has, and under which it is counted."""
    request_deserializer: Callable[[bytes], Any]
    """Makes the message of the body. Raises ServingError."""
    response_serializer: Callable[[Any], bytes]
    unary_unary: Callable[[Any, Any], Awaitable[Any]] | None = None
    unary_stream: Callable[[Any, Any], AsyncIterator[Any]] | None = None
    response_streaming: bool = False
    """Whether the reply is a stream of events. The body may decide it."""
    error_event: Callable[[ServingError], bytes] | None = None
    """What a stream that has begun says of an error."""

    request_streaming = False
    reads_in_thread = True
    """JSON with images takes a while to read; other calls must not wait for it."""

    @property
    def media_type(self) -> str:
        """The type of the reply."""
        return EVENTS_TYPE if self.response_streaming else JSON_TYPE


CallMaker = Callable[[Request], HttpCall]
"""Makes the call of a request. It raises nothing: what may be wrong is looked at when the caller
has been admitted, by `request_deserializer`."""


class Endpoint:
    """Answers the requests of one route."""

    def __init__(self, services: Services, make_call: CallMaker) -> None:
        self._services = services
        self._make_call = make_call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        await answer(self._services, self._make_call(Request(scope)), scope, receive, send)


async def answer(
    services: Services, call: HttpCall, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answers a request by a call of the chain, which admits it before its body is read."""
    context = HttpContext(
        scope,
        receive,
        send,
        body_bytes=services.limits.message_bytes,
        reply=call,
    )
    chain = services.chain
    try:
        try:
            admitted = chain.admit(call.method, context.rpc)
        except Exception as error:
            await chain.refuse(call.method, context.rpc, error)
            raise AssertionError("unreachable") from None
        last = await chain.answer(admitted, call, context.rpc, return_last=True)
        await context.finish(last or b"")
    except RefusedCallError as refusal:
        await context.fail(refusal.error, scope, call.error_event)
    except asyncio.CancelledError:
        if not context.hung_up:
            raise
    finally:
        context.close()


def identify(services: Services, request: Request, method: str) -> Principal:
    """The caller of a request that is no call. Raises ServingError."""
    headers = [(key, value) for key, value in request.headers.items()]
    return services.chain.identify(method, headers)
