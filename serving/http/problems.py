"""The server's errors in HTTP: problem details (RFC 9457), with the `error` that clients of OpenAI
and Cohere read."""

from __future__ import annotations

import json
import math
from typing import Any

from starlette.responses import Response

from serving.core.errors import ErrorKind, ServingError

STATUSES: dict[ErrorKind, int] = {
    ErrorKind.INVALID: 400,
    ErrorKind.UNAUTHENTICATED: 401,
    ErrorKind.FORBIDDEN: 403,
    ErrorKind.NOT_FOUND: 404,
    ErrorKind.UNIMPLEMENTED: 404,
    # Not 409: OpenAI's client sends a call with 409 again, and the server's state does not change.
    ErrorKind.CONFLICT: 422,
    ErrorKind.EXHAUSTED: 429,
    ErrorKind.UNAVAILABLE: 503,
    ErrorKind.EXPIRED: 504,
    ErrorKind.INTERNAL: 500,
}
TITLES = {
    400: "The request is not valid",
    401: "Who calls is not known",
    403: "This is not allowed",
    404: "There is no such thing",
    405: "This path has other methods",
    408: "The request did not arrive in time",
    413: "The request is too large",
    415: "The request has another type",
    421: "This server has another name",
    422: "The model does not offer this",
    429: "The server is busy",
    431: "The head of the request is too large",
    500: "The server is at fault",
    503: "The server is not ready",
    504: "The deadline passed",
}
_RETRY_STATUSES = {429, 503}
_DEFAULT_RETRY_S = 1.0
_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error"}

PROBLEM_TYPE = "application/problem+json"


class HttpError(ServingError):
    """An error with a status of HTTP that no kind of the server's errors has."""

    def __init__(self, status: int, message: str, *, field: str = "") -> None:
        super().__init__(ErrorKind.INVALID, message, field=field)
        self.status = status


def status_of(error: ServingError) -> int:
    """The status of a reply that says `error`."""
    return error.status if isinstance(error, HttpError) else STATUSES[error.kind]


def problem(error: ServingError) -> dict[str, Any]:
    """The body of a reply that says `error`."""
    status = status_of(error)
    code = error.kind.name.lower()
    kind = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    if status == 429:
        kind = "rate_limit_error"
    body: dict[str, Any] = {
        "type": f"/docs#status-{status}",
        "title": TITLES[status],
        "status": status,
        "detail": error.message,
    }
    if error.field:
        body["field"] = error.field
    if (seconds := retry_after(error)) is not None:
        body["retry_after"] = seconds
    body["error"] = {
        "message": error.message,
        "type": kind,
        "param": error.field or None,
        "code": code,
    }
    # Cohere's client shows this one.
    body["message"] = error.message
    return body


def retry_after(error: ServingError) -> float | None:
    """Seconds after which another try may help; None where none does."""
    if status_of(error) not in _RETRY_STATUSES:
        return None
    return _DEFAULT_RETRY_S if error.retry_after is None else error.retry_after


def problem_response(error: ServingError) -> Response:
    """The whole reply that says `error`."""
    headers = {}
    if (seconds := retry_after(error)) is not None:
        # OpenAI's client reads the first, and others the second, which has whole seconds.
        headers["retry-after-ms"] = str(max(1, math.ceil(seconds * 1000)))
        headers["retry-after"] = str(max(1, math.ceil(seconds)))
    if status_of(error) == 401:
        headers["www-authenticate"] = "Bearer"
    content = json.dumps(problem(error), ensure_ascii=False, separators=(",", ":"))
    return Response(content, status_of(error), headers, media_type=PROBLEM_TYPE)
