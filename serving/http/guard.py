"""The outermost layer of the HTTP door: whose name a request uses, and what each reply carries."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http.http_context import RefusedCallError
from serving.http.problems import HttpError, problem_response
from serving.rpc.interceptors.error_sanitizer import ErrorSanitizer

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'none'"
)
SECURITY_HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""On every reply. There is no header that lets pages of other sites read replies."""

_HEADERS = [(key.encode(), value.encode()) for key, value in SECURITY_HEADERS.items()]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Guard:
    """Refuses what no route shall see, and answers errors that no route has answered."""

    def __init__(
        self,
        app: ASGIApp,
        sanitizer: ErrorSanitizer,
        hosts: Collection[str] | None,
        head_bytes: int,
    ) -> None:
        """`hosts` are the names that the header Host may have; None allows all. `head_bytes` bounds
        what comes before a body."""
        self._app = app
        self._sanitizer = sanitizer
        self._hosts = hosts
        self._head_bytes = head_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        if refusal := self._refusal(scope):
            response = problem_response(refusal)
            # What follows on this connection may be meant for another server, or be no request.
            response.headers["connection"] = "close"
            await response(scope, receive, guarded)
            return
        try:
            await self._app(scope, receive, guarded)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if isinstance(error, RefusedCallError):
                error = error.error
            safe = error if isinstance(error, HttpError) else self._sanitizer.sanitize(error)
            if started:
                scope.get("state", {}).get("cut", lambda: None)()
            else:
                await problem_response(safe)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> HttpError | None:
        """Why no route sees a request.

        A page of another site may give its own name the address of this machine. Its requests then
        come from this machine, and carry that name.
        """
        headers = dict(scope["headers"])
        size = len(scope["raw_path"]) + len(scope["query_string"])
        size += sum(len(name) + len(value) for name, value in scope["headers"])
        if scope["http_version"] not in ("1.0", "1.1"):
            return HttpError(400, "this is another version of HTTP")
        if size > self._head_bytes:
            return HttpError(
                431, f"the address and headers have more than {self._head_bytes} bytes"
            )
        if b"transfer-encoding" in headers and b"content-length" in headers:
            return HttpError(400, "a body has one length")
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name, colon, port = host.rpartition(":")
        if not colon or not port.isdigit():
            name = host
        if self._hosts is not None and name not in self._hosts:
            return HttpError(421, "the header host names another server")
        return None
