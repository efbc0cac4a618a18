"""What a front end and the engine's process say on one connection.

A connection carries one run at a time. The front end greets with the digest of its bundle. Then it
asks for runs: it writes the inputs to the start of memory that both sides map, and sends a header
of a fixed size. The memory's descriptor comes with the first header, and again whenever the memory
had to grow. Each answer is a length and a payload, whose first byte says what it is.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.onnx_graph import GRAPHS, PATCH_OUTPUTS, ROW_OUTPUTS, GraphName
from serving.engines.base import EngineError, EngineOutput, OutOfMemoryError

_DIMENSIONS = 4
_HEADER = struct.Struct(f"<B4sB{_DIMENSIONS}q")
"""The graph's place in GRAPHS; the inputs' type, number of dimensions, and sizes."""
_ARRAY = struct.Struct("<4sB3x")
"""Type and number of dimensions of an array of an output; its sizes and its values follow."""
_ALIGNMENT = 8
"""An array begins at a multiple of this many bytes."""
_LENGTH = struct.Struct("<Q")

OUTPUT, OUT_OF_MEMORY, FAILED = b"o", b"m", b"e"
"""The first byte of the answer to a run. An output follows, or the message of an error."""
WELCOME, REFUSED = b"w", b"r"
"""The first byte of the answer to a greeting. JSON about the engine follows, or the reason."""

DIGEST_BYTES = 64
"""The greeting is a SHA-256 in hexadecimal digits."""


class ConnectionLostError(ConnectionError):
    """The other side has closed the connection, or ended."""


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """A run that is asked for; its inputs lie in the shared memory."""

    graph: GraphName
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Size of the inputs."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def send_request(
    connection: socket.socket, graph: GraphName, inputs: NDArray[Any], memory: int | None
) -> None:
    """Asks for a run of `inputs`, which the shared memory holds already. `memory` is its
    descriptor; None when the other side has it."""
    shape = inputs.shape + (1,) * (_DIMENSIONS - inputs.ndim)
    header = _HEADER.pack(GRAPHS.index(graph), inputs.dtype.str.encode(), inputs.ndim, *shape)
    # A header fits the buffer of an idle connection, so it is never sent in part.
    socket.send_fds(connection, [header], [] if memory is None else [memory])


def receive_request(connection: socket.socket) -> tuple[RunRequest, int | None]:
    """The next request, and a descriptor that came with it. Raises ConnectionLostError."""
    header, descriptors, _, _ = socket.recv_fds(connection, _HEADER.size, 1)
    while header and len(header) < _HEADER.size:
        more = connection.recv(_HEADER.size - len(header))
        header = header + more if more else b""
    if not header:
        raise ConnectionLostError("the other side has left")
    graph, dtype, dimensions, *shape = _HEADER.unpack(header)
    request = RunRequest(
        graph=GRAPHS[graph],
        dtype=np.dtype(dtype.rstrip(b"\0").decode()),
        shape=tuple(shape[:dimensions]),
    )
    return request, descriptors[0] if descriptors else None


def send_answer(
    connection: socket.socket, kind: bytes, parts: Sequence[bytes | memoryview]
) -> None:
    """Sends an answer, however large."""
    payload = b"".join((kind, *parts))
    connection.sendall(_LENGTH.pack(len(payload)))
    connection.sendall(payload)


def receive_answer(connection: socket.socket) -> tuple[bytes, bytearray]:
    """The kind of an answer and what follows it. Raises ConnectionLostError."""
    (length,) = _LENGTH.unpack(receive_exactly(connection, _LENGTH.size))
    payload = receive_exactly(connection, length)
    return bytes(payload[:1]), payload[1:]


def receive_exactly(connection: socket.socket, length: int) -> bytearray:
    """The next `length` bytes. Raises ConnectionLostError."""
    data = bytearray(length)
    view, at = memoryview(data), 0
    while at < length:
        received = connection.recv_into(view[at:])
        if not received:
            raise ConnectionLostError("the other side has left")
        at += received
    return data


def pack_output(output: EngineOutput) -> list[bytes]:
    """An output as the parts of an answer."""
    arrays = [getattr(output, name) for name in ROW_OUTPUTS]
    if (maps := output.patches) is not None:
        arrays += [maps.indices, maps.values, maps.active]
    parts = []
    for array in arrays:
        sizes = struct.pack(f"<{array.ndim}q", *array.shape)
        padding = bytes(-array.nbytes % _ALIGNMENT)
        parts += [
            _ARRAY.pack(array.dtype.str.encode(), array.ndim),
            sizes,
            array.tobytes(),
            padding,
        ]
    return parts


def unpack_output(payload: bytearray) -> EngineOutput:
    """The output of an answer; its arrays share the payload's memory."""
    arrays: list[NDArray[Any]] = []
    at = 0
    while at < len(payload):
        dtype, dimensions = _ARRAY.unpack_from(payload, at)
        at += _ARRAY.size
        shape = struct.unpack_from(f"<{dimensions}q", payload, at)
        at += 8 * dimensions
        count = int(np.prod(shape, dtype=np.int64))
        kind: np.dtype[Any] = np.dtype(dtype.rstrip(b"\0").decode())
        arrays.append(np.frombuffer(payload, kind, count, at).reshape(shape))
        at += -(-count * kind.itemsize // _ALIGNMENT) * _ALIGNMENT
    rows, maps = arrays[: len(ROW_OUTPUTS)], arrays[len(ROW_OUTPUTS) :]
    return EngineOutput.of_arrays(
        dict(zip(ROW_OUTPUTS, rows, strict=True)) | dict(zip(PATCH_OUTPUTS, maps, strict=False))
    )


def error_of(kind: bytes, payload: bytearray) -> EngineError:
    """The error of an answer of the kind OUT_OF_MEMORY or FAILED."""
    message = payload.decode(errors="replace")
    return OutOfMemoryError(message) if kind == OUT_OF_MEMORY else EngineError(message)
