"""Calls written as HTTP/2 frames, which say what no gRPC client would."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import h2.config
import h2.connection
import h2.events
import h2.settings

Headers = Iterable[tuple[bytes, bytes]]

CHUNK = 16_384
"""Bytes of one frame."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """How a call ended."""

    status: int | None
    """The gRPC status; None when the server reset the stream or closed the connection."""
    message: str = ""
    details: bytes = b""
    """Base64 of the google.rpc.Status."""


def framed(message: bytes) -> bytes:
    """A message with gRPC's prefix."""
    return b"\0" + struct.pack(">I", len(message)) + message


def bearer(token: str) -> Headers:
    return [(b"authorization", f"Bearer {token}".encode())]


class RawConnection:
    """One connection with one call on it."""

    def __init__(self, address: str, settings: dict[int, int] | None = None) -> None:
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        self._connection = h2.connection.H2Connection(
            h2.config.H2Configuration(
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
                validate_inbound_headers=False,
            )
        )
        self._connection.initiate_connection()
        if settings:
            self._connection.update_settings(settings)

    def send(
        self,
        path: bytes,
        body: bytes,
        headers: Headers = (),
        *,
        method: bytes = b"POST",
        content_type: bytes = b"application/grpc",
        end: bool = True,
    ) -> None:
        """Starts a call; `end` says that no more will come."""
        self._connection.send_headers(
            1,
            [
                (b":method", method),
                (b":scheme", b"http"),
                (b":path", path),
                (b":authority", b"localhost"),
                (b"te", b"trailers"),
                (b"content-type", content_type),
                *headers,
            ],
            end_stream=end and not body,
        )
        for start in range(0, len(body), CHUNK):
            last = end and start + CHUNK >= len(body)
            self._connection.send_data(1, body[start : start + CHUNK], end_stream=last)
        self._flush()

    def _flush(self) -> None:
        self._socket.sendall(self._connection.data_to_send())

    def reply(self) -> Reply:
        """Waits for the end of the call."""
        trailers: dict[bytes, bytes] = {}
        while data := self._socket.recv(65_536):
            for event in self._connection.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                    trailers.update(event.headers)
                if isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
                    return Reply(status=None)
                if isinstance(event, h2.events.StreamEnded):
                    status = trailers.get(b"grpc-status")
                    return Reply(
                        status=None if status is None else int(status),
                        message=trailers.get(b"grpc-message", b"").decode(),
                        details=trailers.get(b"grpc-status-details-bin", b""),
                    )
            self._flush()
        return Reply(status=None)

    def hang_up(self) -> None:
        """Closes the connection as a caller does whose process was killed."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def connected(address: str, settings: dict[int, int] | None = None) -> Iterator[RawConnection]:
    """A connection that is closed when the block ends."""
    connection = RawConnection(address, settings)
    try:
        yield connection
    finally:
        connection.close()


UNREAD = {int(h2.settings.SettingCodes.INITIAL_WINDOW_SIZE): 0}
"""The settings of a caller who reads nothing: not a byte of a reply may be sent to it."""
