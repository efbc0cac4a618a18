"""The engine of another process, as a front end sees it."""

from __future__ import annotations

import json
import mmap
import select
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.onnx_graph import GraphName
from bundle.store import BundleError
from serving.core.shared_memory import anonymous_file
from serving.engine_process.messages import (
    OUTPUT,
    REFUSED,
    error_of,
    receive_answer,
    send_request,
    unpack_output,
)
from serving.engines.base import EngineError, EngineLostError, EngineOutput

_GREETING_S = 30.0
"""How long the process of the engine may take to answer a greeting."""


class _EngineConnection:
    """A connection, with the memory for the inputs of its runs."""

    def __init__(self, path: Path, digest: str) -> None:
        """Raises OSError when nobody listens at `path`, BundleError for another bundle there."""
        self._memory: mmap.mmap | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(_GREETING_S)
            self._socket.connect(str(path))
            self._socket.sendall(digest.encode())
            kind, payload = receive_answer(self._socket)
            self._socket.settimeout(None)
        except BaseException:
            self._socket.close()
            raise
        if kind == REFUSED:
            self._socket.close()
            raise BundleError(payload.decode())
        self.engine: dict[str, Any] = json.loads(payload)
        """What the process said of its engine."""

    @property
    def is_open(self) -> bool:
        """Whether the process is there, as far as can be told without sending anything."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)  # it says nothing unasked: what can be read is the end

    def run(self, graph: GraphName, inputs: NDArray[Any]) -> EngineOutput:
        """Raises OSError when the process has ended, EngineError when the run failed."""
        memory = self._memory
        if memory is not None and len(memory) >= inputs.nbytes:
            self._write(memory, inputs)
            send_request(self._socket, graph, inputs, None)
        else:
            size = -(-max(1, inputs.nbytes) // mmap.PAGESIZE) * mmap.PAGESIZE
            with anonymous_file(size, "engine") as descriptor:
                self._memory = mmap.mmap(descriptor, size)
                self._write(self._memory, inputs)
                send_request(self._socket, graph, inputs, descriptor)
        kind, payload = receive_answer(self._socket)
        if kind != OUTPUT:
            raise error_of(kind, payload)
        return unpack_output(payload)

    def _write(self, memory: mmap.mmap, inputs: NDArray[Any]) -> None:
        place = np.frombuffer(memory, inputs.dtype, inputs.size).reshape(inputs.shape)
        np.copyto(place, inputs)

    def close(self) -> None:
        self._socket.close()


class RemoteEngine:
    """Runs graphs in a process that serving.engine_process.engine_host runs.

    When that process ends, the runs in flight raise EngineLostError, and so does every run until
    another process listens at the same path.
    """

    def __init__(self, path: Path, digest: str) -> None:
        """`path` is the process's socket, and `digest` that of the manifest of this front end's
        bundle.

        Raises EngineLostError when nobody listens there, BundleError for another bundle there.
        """
        self._path = path
        self._digest = digest
        self._idle: list[_EngineConnection] = []
        self._lock = threading.Lock()
        self._closed = False
        connection = self._connect()
        self._engine = connection.engine
        self._idle.append(connection)

    @property
    def description(self) -> str:
        """See OpenedEngine."""
        return str(self._engine["description"])

    @property
    def runs(self) -> int:
        """See OpenedEngine."""
        return int(self._engine["runs"])

    def run(self, graph: GraphName, inputs: NDArray[Any]) -> EngineOutput:
        """See OpenedEngine. Raises EngineLostError too."""
        try:
            connection = self._idle_connection() or self._connect()
        except BundleError as error:  # somebody has changed the bundle that the other side opens
            raise EngineLostError(str(error)) from None
        try:
            output = connection.run(graph, inputs)
        except ConnectionError:
            connection.close()
            raise EngineLostError(f"the process of the engine has ended (pid {self.pid})") from None
        except OSError as error:
            connection.close()
            raise EngineError(f"inputs cannot be shared: {error.strerror}") from None
        except EngineError:
            self._put(connection)
            raise
        except BaseException:  # the answer is still to come: the next run would take it for its own
            connection.close()
            raise
        self._put(connection)
        return output

    @property
    def pid(self) -> int:
        """The id of the process that answered the latest greeting."""
        return int(self._engine["pid"])

    def _idle_connection(self) -> _EngineConnection | None:
        """A connection that nobody uses; those of a process that has ended are closed."""
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if connection.is_open:
                    return connection
                connection.close()
        return None

    def _connect(self) -> _EngineConnection:
        try:
            connection = _EngineConnection(self._path, self._digest)
        except OSError as error:
            reason = f"the process of the engine does not answer: {error.strerror or error}"
            raise EngineLostError(reason) from None
        self._engine = connection.engine
        return connection

    def _put(self, connection: _EngineConnection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Closes the connections. The engine stays open for other front ends."""
        with self._lock:
            self._closed = True
            connections, self._idle = self._idle, []
        for connection in connections:
            connection.close()
