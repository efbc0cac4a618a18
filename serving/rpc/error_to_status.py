"""The server's errors in gRPC: the one place where kinds become status codes."""

from __future__ import annotations

import functools

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status

from serving.core.errors import ErrorKind, ServingError

CODES: dict[ErrorKind, grpc.StatusCode] = {
    ErrorKind.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorKind.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    ErrorKind.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    ErrorKind.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorKind.UNIMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
    ErrorKind.CONFLICT: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorKind.EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorKind.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    ErrorKind.EXPIRED: grpc.StatusCode.DEADLINE_EXCEEDED,
    ErrorKind.INTERNAL: grpc.StatusCode.INTERNAL,
}

_KINDS = {code.value[0]: kind for kind, code in CODES.items()}

DETAILS_KEY = "grpc-status-details-bin"

_RETRYABLE = (ErrorKind.EXHAUSTED, ErrorKind.UNAVAILABLE)
_DEFAULT_RETRY_S = 1.0


def to_status(error: ServingError) -> Status:
    """google.rpc.Status, with BadRequest for a named field and RetryInfo if a retry may help."""
    status = Status(code=CODES[error.kind].value[0], message=error.message)
    if error.field:
        violation = BadRequest.FieldViolation(field=error.field, description=error.message)
        _add(status, BadRequest(field_violations=[violation]))
    if error.kind in _RETRYABLE:
        seconds = _DEFAULT_RETRY_S if error.retry_after is None else error.retry_after
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(max(1, int(seconds * 1000)))
        _add(status, RetryInfo(retry_delay=delay))
    return status


def from_status(status: Status) -> ServingError:
    """The error of a status that `to_status` made."""
    field, retry_after = "", None
    for detail in status.details:
        violations, retry = BadRequest(), RetryInfo()
        if detail.Unpack(violations):
            field = violations.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToMilliseconds() / 1000
    kind = _KINDS[status.code]
    return ServingError(kind, status.message, field=field, retry_after=retry_after)


@functools.lru_cache(maxsize=256)
def details(kind: ErrorKind, message: str, field: str, retry_after: float | None) -> bytes:
    """The encoded google.rpc.Status of an error, for the trailers of a call; empty if it says no
    more than the code and the message do. A full server says the same to many calls."""
    status = to_status(ServingError(kind, message, field=field, retry_after=retry_after))
    return status.SerializeToString() if status.details else b""


def _add(status: Status, detail: object) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)  # type: ignore[arg-type]
    status.details.append(packed)
