"""The outermost layer: whatever goes wrong reaches the caller as one of the server's own errors."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

import grpc

from bundle.bounded_log import BoundedLog
from serving.core.call_trace import current_trace
from serving.core.errors import ServingError, expired, internal
from serving.core.metrics import Metrics
from serving.rpc.call_context import RpcContext
from serving.rpc.error_to_status import CODES, DETAILS_KEY, details


class ErrorSanitizer:
    """Turns exceptions into statuses, and counts how calls end."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._log = BoundedLog(logging.getLogger(__name__))

    @asynccontextmanager
    async def guarding(self, method: str, context: RpcContext) -> AsyncIterator[None]:
        """Ends the call with a sanitized status when the block raises."""
        started = time.perf_counter()
        try:
            yield
        except grpc.aio.AbortError:  # a library's handler, such as reflection, ended the call
            self._metrics.calls.labels(method, "ABORTED_BY_HANDLER").inc()
            raise
        except asyncio.CancelledError:
            self._metrics.calls.labels(method, "CANCELLED").inc()
            raise
        except grpc.aio.InternalError:  # a reply could not be sent: the caller has hung up
            self._metrics.calls.labels(method, "CANCELLED").inc()
            raise asyncio.CancelledError from None
        except Exception as error:
            await self.abort(method, context, self._without_frames(error))
        else:
            self._metrics.calls.labels(method, "OK").inc()
            self._metrics.seconds.labels(method).observe(time.perf_counter() - started)

    async def abort(self, method: str, context: RpcContext, error: ServingError) -> NoReturn:
        """Ends the call with the status of an error."""
        code = CODES[error.kind]
        outcome = code.name
        if (trace := current_trace()) is not None:
            trace.end_with(outcome, error.message)
        encoded = details(error.kind, error.message, error.field, error.retry_after)
        metadata = ((DETAILS_KEY, encoded),) if encoded else ()
        try:
            await context.abort(code, error.message, metadata)
        except grpc.aio.InternalError:  # the call has ended already: nobody waits for the status
            outcome = "CANCELLED"
            raise asyncio.CancelledError from None
        finally:
            self._metrics.calls.labels(method, outcome).inc()
        raise AssertionError("unreachable")

    def _without_frames(self, error: Exception) -> ServingError:
        """The server's own error. The request is in the frames of `error`, which what is raised
        next would keep in memory."""
        safe = self.sanitize(error)
        traceback.clear_frames(error.__traceback__)
        return safe

    def sanitize(self, error: Exception) -> ServingError:
        """The server's own error in an exception. Any other becomes internal, with its cause
        logged."""
        if isinstance(error, ServingError):
            return error
        if isinstance(error, TimeoutError):
            return expired()
        if isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
            return self.sanitize(error.exceptions[0])
        self._log.write(logging.ERROR, "internal error", error=error)
        return internal()

    def close(self) -> None:
        """Writes what its log has counted."""
        self._log.close()
