"""What a caller learns of an exception: one of the server's own errors, and never its cause."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from bundle import bounded_log
from serving.core.errors import ErrorKind, ServingError, invalid
from serving.core.metrics import Metrics
from serving.rpc.error_to_status import DETAILS_KEY
from serving.rpc.interceptors.error_sanitizer import ErrorSanitizer

METHOD = "/sparseclip.v1.EmbeddingService/Embed"


class Context:
    """Stands for gRPC's: it records how a call was ended."""

    def __init__(self, error: type[Exception] = grpc.aio.AbortError) -> None:
        self._error = error
        self.ended: list[tuple[Any, ...]] = []

    async def abort(self, *arguments: Any) -> None:
        self.ended.append(arguments)
        raise self._error


def count(metrics: Metrics, code: str) -> float:
    labels = {"method": METHOD, "code": code}
    return metrics.registry.get_sample_value("sparseclip_calls_total", labels) or 0.0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (invalid("inputs", "too many"), ErrorKind.INVALID),
        (TimeoutError(), ErrorKind.EXPIRED),
        (ExceptionGroup("tasks", [invalid("a", "b")]), ErrorKind.INVALID),
        (ExceptionGroup("tasks", [invalid("a", "b"), TimeoutError()]), ErrorKind.INTERNAL),
        (KeyError("/secret/path"), ErrorKind.INTERNAL),
    ],
)
def test_every_exception_becomes_an_error_of_the_server(error: Exception, kind: ErrorKind) -> None:
    safe = ErrorSanitizer(Metrics()).sanitize(error)
    assert safe.kind is kind
    assert "secret" not in safe.message


def test_the_cause_of_an_internal_error_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    ErrorSanitizer(Metrics()).sanitize(KeyError("/secret/path"))
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "/secret/path" in caplog.text


def test_causes_that_come_with_every_call_do_not_fill_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sanitizer = ErrorSanitizer(Metrics())
    for _ in range(bounded_log.FIRST_LINES + 5):
        sanitizer.sanitize(KeyError("field"))
    sanitizer.close()
    assert caplog.messages[bounded_log.FIRST_LINES :] == [
        "5 more lines like this one: internal error: KeyError('field')"
    ]


async def test_a_call_ends_with_the_status_of_its_error() -> None:
    metrics, context = Metrics(), Context()
    error = ServingError(ErrorKind.EXHAUSTED, "the queue is full", field="inputs", retry_after=2.5)
    with pytest.raises(grpc.aio.AbortError):
        async with ErrorSanitizer(metrics).guarding(METHOD, context):  # type: ignore[arg-type]
            raise error
    [(code, message, details)] = context.ended
    assert (code, message) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full")
    [(key, value)] = details
    assert key == DETAILS_KEY
    status = status_pb2.Status.FromString(value)
    request, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(request)
    assert status.details[1].Unpack(retry)
    assert [violation.field for violation in request.field_violations] == ["inputs"]
    assert retry.retry_delay.ToMilliseconds() == 2_500
    assert count(metrics, "RESOURCE_EXHAUSTED") == 1


async def test_a_caller_who_is_gone_is_told_nothing() -> None:
    metrics, context = Metrics(), Context(grpc.aio.InternalError)
    with pytest.raises(asyncio.CancelledError):
        async with ErrorSanitizer(metrics).guarding(METHOD, context):  # type: ignore[arg-type]
            raise invalid("inputs", "too many")


async def test_calls_are_counted_by_how_they_end() -> None:
    metrics = Metrics()
    sanitizer = ErrorSanitizer(metrics)
    async with sanitizer.guarding(METHOD, Context()):  # type: ignore[arg-type]
        pass
    for error in (asyncio.CancelledError, grpc.aio.AbortError):
        with pytest.raises(error):
            async with sanitizer.guarding(METHOD, Context()):  # type: ignore[arg-type]
                raise error
    assert [count(metrics, code) for code in ("OK", "CANCELLED", "ABORTED_BY_HANDLER")] == [1, 1, 1]
