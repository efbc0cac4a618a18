"""Many calls of one gRPC method, for next to no CPU.

A gRPC client spends about half a millisecond of CPU on a call. A caller that shares the server's
cores would then measure itself. Here the frames of a call (RFC 9113) are encoded once, so that a
call costs two writes and a lookup of its reply's headers (RFC 7541, section 2).
"""

from __future__ import annotations

import base64
import collections
import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from hpack import Decoder, Encoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 1, 1, 4, 8, 32
HEADER_TABLE_SIZE, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 3, 4, 5
CANCEL = 8
LATE = StatusCode.DEADLINE_EXCEEDED.name
WINDOW = 2**31 - 1
STATUS_NAMES = {str(code.value[0]): code.name for code in StatusCode}


@dataclass(frozen=True, slots=True)
class Call:
    """One call that has ended; times in seconds of the same clock."""

    due: float
    started: float
    ended: float
    outcome: str
    """The status, with `+RetryInfo` if the server named a delay."""


class Connection:
    """A connection that makes calls with one message."""

    def __init__(
        self, address: str, method: str, message: bytes, deadline: float, headers: dict[str, str]
    ) -> None:
        """`deadline` is in seconds; a call that is not answered by then is cancelled."""
        self._deadline = deadline
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._headers = Encoder().encode(
            [
                (name, value, True)  # never indexed: the bytes are the same for every call
                for name, value in {
                    ":method": "POST",
                    ":scheme": "http",
                    ":path": method,
                    ":authority": address,
                    "te": "trailers",
                    "content-type": "application/grpc",
                    "grpc-timeout": f"{round(deadline * 1e3)}m",
                    **headers,
                }.items()
            ]
        )
        self._message = struct.pack(">BI", 0, len(message)) + message
        self._unsent = bytearray(PREFACE)
        self._received = bytearray()
        self._waiting = collections.deque[tuple[float, float]]()
        """Calls that the server's settings and the window hold back: due and started."""
        self._open: dict[int, tuple[float, float]] = {}
        """Calls in flight by stream, oldest first: due and started."""
        self._outcomes: dict[bytes, str] = {}
        self._decoder = Decoder()
        self._next_stream = 1
        self._window = 65_535
        self._stream_window = 65_535
        self._frame = 16_384
        self._streams = WINDOW
        self.calls: list[Call] = []
        """Those that have ended."""
        settings = ((HEADER_TABLE_SIZE, 0), (INITIAL_WINDOW_SIZE, WINDOW))
        self._write(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *entry) for entry in settings))
        self._write(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW - 65_535))

    def start(self, due: float) -> None:
        """Begins a call that should have begun at `due`."""
        self._waiting.append((due, time.perf_counter()))
        self._send_waiting()

    def fileno(self) -> int:
        """Of the socket, for select."""
        return self._socket.fileno()

    @property
    def is_busy(self) -> bool:
        """Whether a call has not ended."""
        return bool(self._open or self._waiting)

    @property
    def has_unsent(self) -> bool:
        """Whether bytes wait for the socket."""
        return bool(self._unsent)

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()

    def _send_waiting(self) -> None:
        size = len(self._message)
        if size > self._stream_window:
            raise SystemExit("the message is larger than the window of a stream")
        while self._waiting and size <= self._window and len(self._open) < self._streams:
            self._window -= size
            stream, self._next_stream = self._next_stream, self._next_stream + 2
            self._open[stream] = self._waiting.popleft()
            self._write(HEADERS, END_HEADERS, stream, self._headers)
            for start in range(0, size, self._frame):
                part = self._message[start : start + self._frame]
                last = start + self._frame >= size
                self._write(DATA, END_STREAM if last else 0, stream, part)
        self.flush()

    def cancel_late(self) -> None:
        """Ends calls whose deadline has passed."""
        now = time.perf_counter()
        while self._open:
            stream, (due, started) = next(iter(self._open.items()))
            if now < started + self._deadline:
                break
            self._end(stream, LATE)
            self._write(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
        while self._waiting and now >= self._waiting[0][1] + self._deadline:
            self.calls.append(Call(*self._waiting.popleft(), now, LATE))

    def _write(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        self._unsent += struct.pack(">BHBBI", size >> 16, size & 0xFFFF, kind, flags, stream)
        self._unsent += payload

    def flush(self) -> None:
        """Sends what the socket takes."""
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass

    def read(self) -> None:
        """Takes what has come."""
        try:
            received = self._socket.recv(1 << 18)
        except BlockingIOError:
            return
        if not received:
            raise SystemExit("the server has closed the connection")
        data = self._received
        data += received
        start = 0
        while len(data) - start >= 9:
            high, low, kind, flags, stream = struct.unpack_from(">BHBBI", data, start)
            end = start + 9 + (high << 16 | low)
            if end > len(data):
                break
            self._on_frame(kind, flags, stream, bytes(data[start + 9 : end]))
            start = end
        del data[:start]
        self._send_waiting()

    def _on_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == HEADERS:
            if flags & (PADDED | PRIORITY) or not flags & END_HEADERS:
                raise SystemExit("the server sends headers in a form that is not read here")
            if flags & END_STREAM:
                self._end(stream, self._outcome(payload))
        elif kind == RST_STREAM:
            self._end(stream, f"RST_STREAM {int.from_bytes(payload)}")
        elif kind == WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload)
        elif kind == SETTINGS and not flags & ACK:
            settings = dict(struct.iter_unpack(">HI", payload))
            self._stream_window = settings.get(INITIAL_WINDOW_SIZE, self._stream_window)
            self._streams = settings.get(MAX_CONCURRENT_STREAMS, self._streams)
            self._frame = settings.get(MAX_FRAME_SIZE, self._frame)
            self._write(SETTINGS, ACK, 0, b"")
        elif kind == PING and not flags & ACK:
            self._write(PING, ACK, 0, payload)
        elif kind == GOAWAY:
            raise SystemExit(f"the server ends the connection: {payload[8:]!r}")

    def _end(self, stream: int, outcome: str) -> None:
        call = self._open.pop(stream, None)
        if call is not None:  # else it was cancelled
            self.calls.append(Call(*call, time.perf_counter(), outcome))

    def _outcome(self, trailers: bytes) -> str:
        """The name of the status. Without a table of headers (its size is set to 0), equal bytes
        mean the same headers."""
        known = self._outcomes.get(trailers)
        if known is None:
            headers = {str(name): str(value) for name, value, *_ in self._decoder.decode(trailers)}
            known = STATUS_NAMES[headers["grpc-status"]]
            text = headers.get("grpc-status-details-bin", "")
            details = Status.FromString(base64.b64decode(text + "=" * (-len(text) % 4))).details
            if any(detail.Is(RetryInfo.DESCRIPTOR) for detail in details):
                known += "+RetryInfo"
            self._outcomes[trailers] = known
        return known


def turn(connections: Sequence[Connection], until: float) -> None:
    """Sends and receives until `until`, in seconds of perf_counter."""
    while True:
        for connection in connections:
            connection.cancel_late()
        full = [connection for connection in connections if connection.has_unsent]
        seconds = max(0.0, until - time.perf_counter())
        readable, writable, _ = select.select(connections, full, [], seconds)
        for connection in writable:
            connection.flush()
        for connection in readable:
            connection.read()
        if not readable and not writable:
            return
