"""HTTP/1.1 of uvicorn, with the bounds on time that it lacks."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from serving.http.guard import SECURITY_HEADERS
from serving.http.open_connections import OpenConnections

_MALFORMED = b"the request is not HTTP\n"


class HttpProtocol(H11Protocol):
    """One connection.

    uvicorn waits without end for the rest of a head that has begun, and for the rest of a body that
    nobody reads because its request was refused. Here both have `patience_s`. It also waits without
    end for a caller to read; here for `stall_s`.
    """

    def __init__(
        self,
        config: Config,
        state: ServerState,
        others: OpenConnections,
        patience_s: float,
        stall_s: float,
    ) -> None:
        super().__init__(config=config, server_state=state, app_state={})
        self._others = others
        self._patience_s = patience_s
        self._stall_s = stall_s
        self._stalled: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        self.app_state = {"cut": transport.abort}
        super().connection_made(transport)
        self._others.add(self)
        self._look()

    @property
    def waits(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """Called when a reply has been sent."""
        super().on_response_complete()
        self._others.touch(self)
        self._look()

    def pause_writing(self) -> None:
        """Called when the caller has not read for a while."""
        super().pause_writing()
        self._stalled = self.loop.call_later(self._stall_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Called when the caller reads again."""
        self._end_stall()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._stop()
        self._end_stall()
        self._others.remove(self)
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """Called when a connection has been idle. What its caller has not read is given up."""
        super().timeout_keep_alive_handler()
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answers what is not HTTP."""
        headers: list[Any] = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(_MALFORMED)).encode()),
            (b"connection", b"close"),
            *((key.encode(), value.encode()) for key, value in SECURITY_HEADERS.items()),
        ]
        try:
            for event in (
                h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
                h11.Data(data=_MALFORMED),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:  # in the middle of a reply
            self.transport.abort()
        else:
            self.transport.close()

    def _end_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _look(self) -> None:
        """Starts or stops the clock, by whether the caller must send something."""
        is_new = self.cycle is None
        head = self.conn.their_state is h11.IDLE and (is_new or bool(self.conn.trailing_data[0]))
        answered = not is_new and self.cycle.response_complete
        rest = answered and self.conn.their_state is h11.SEND_BODY
        if not (head or rest):
            self._stop()
        elif self._timer is None:
            self._timer = self.loop.call_later(self._patience_s, self.transport.abort)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
