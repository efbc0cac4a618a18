"""The outermost layer: whatever goes wrong reaches the caller as one of our errors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc

from serving.core.errors import ServingError, expired, internal
from serving.core.metrics import Metrics
from serving.rpc.status import CODES, DETAILS_KEY, to_status

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


class ErrorSanitizer:
    """Turns exceptions into statuses, and counts how calls end."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    @asynccontextmanager
    async def guarding(self, method: str, context: Context) -> AsyncIterator[None]:
        """Ends the call with a sanitised status when the body raises."""
        started = time.perf_counter()
        try:
            yield
        except grpc.aio.AbortError:  # a library's handler, such as health, ended the call itself
            self._metrics.calls.labels(method, "ABORTED_BY_HANDLER").inc()
            raise
        except asyncio.CancelledError:
            self._metrics.calls.labels(method, "CANCELLED").inc()
            raise
        except Exception as error:
            await self.abort(method, context, error)
        else:
            self._metrics.calls.labels(method, "OK").inc()
            self._metrics.seconds.labels(method).observe(time.perf_counter() - started)

    async def abort(self, method: str, context: Context, error: Exception) -> NoReturn:
        """Ends the call with the status of an error."""
        ours = sanitize(error)
        self._metrics.calls.labels(method, CODES[ours.kind].name).inc()
        status = to_status(ours)
        details = ((DETAILS_KEY, status.SerializeToString()),) if status.details else ()
        try:
            await context.abort(CODES[ours.kind], ours.message, details)
        except grpc.aio.InternalError:  # the call is over already: nobody is there to be told
            raise asyncio.CancelledError from None
        raise AssertionError("unreachable")


def sanitize(error: Exception) -> ServingError:
    """Our error in it, or an internal one whose cause goes to the log alone."""
    if isinstance(error, ServingError):
        return error
    if isinstance(error, TimeoutError):
        return expired()
    if isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        return sanitize(error.exceptions[0])
    log.error("internal error", exc_info=error)
    return internal()
