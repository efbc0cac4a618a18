"""The engine's process: it runs what front ends ask for over a Unix socket.

serving.front_ends.supervisor starts it, with settings as JSON. It writes one line of JSON to
standard output: that it is ready, or why it cannot start. It ends when its standard input has ended
and the last front end has left.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import mmap
import os
import resource
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np

from bundle.onnx_graph import GraphName
from bundle.schema import from_dict
from bundle.store import open_bundle
from serving.core.child_process import answers_on_stdout
from serving.core.config import ServerConfig
from serving.core.errors import one_line
from serving.core.memory import prepare_memory, settle_memory
from serving.engine_plans.open_engine import open_engine
from serving.engine_process.joint_runs import JointRuns
from serving.engine_process.messages import (
    DIGEST_BYTES,
    FAILED,
    OUT_OF_MEMORY,
    OUTPUT,
    REFUSED,
    WELCOME,
    pack_output,
    receive_exactly,
    receive_request,
    send_answer,
)
from serving.engines.base import EngineError, OpenedEngine, OutOfMemoryError
from serving.models.load_failure import LOAD_ERRORS, load_failure
from serving.models.sample_inputs import run_samples

log = logging.getLogger(__name__)

_LEAVING_S = 20.0
"""How long front ends may take to leave, beyond their drain, when this process shall end."""

_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ECONNABORTED)
"""What a connection may fail with while others go on."""
_PAUSE_S = 0.1


class EngineHost:
    """Answers connections, each in a thread of its own."""

    def __init__(self, engine: OpenedEngine, digest: str, config: ServerConfig) -> None:
        batch = config.batch
        largest: dict[GraphName, int] = {
            "image": batch.max_images,
            "patches": batch.max_images,
            "text": batch.max_texts,
        }
        self._engine = engine
        self._digest = digest
        self._runs = JointRuns(engine, largest)
        self._connections = 0
        self._left = threading.Condition()

    def serve(self, listener: socket.socket) -> None:
        """Accepts connections for ever."""
        while True:
            try:
                connection, _ = listener.accept()
            except OSError as error:
                if error.errno not in _PASSING:
                    raise
                log.error("a connection is not taken: %s", error.strerror)
                time.sleep(_PAUSE_S)
                continue
            with self._left:
                self._connections += 1
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def wait_until_left(self, seconds: float) -> None:
        """Waits until no connection is open, for at most `seconds`."""
        with self._left:
            self._left.wait_for(lambda: not self._connections, seconds)

    def _answer(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError):  # a front end may go at any time
                self._welcome(connection)
                self._answer_runs(connection)
        finally:
            with self._left:
                self._connections -= 1
                self._left.notify_all()

    def _welcome(self, connection: socket.socket) -> None:
        if receive_exactly(connection, DIGEST_BYTES).decode() != self._digest:
            send_answer(connection, REFUSED, [b"the engine has opened another version of it"])
            raise ConnectionRefusedError
        about = {
            "description": self._engine.description,
            "runs": self._engine.runs,
            "pid": os.getpid(),
        }
        send_answer(connection, WELCOME, [json.dumps(about).encode()])

    def _answer_runs(self, connection: socket.socket) -> None:
        memory: mmap.mmap | None = None
        while True:
            request, descriptor = receive_request(connection)
            if descriptor is not None:
                with os.fdopen(descriptor, "r+b") as file:
                    # Writable, since some engines copy inputs that are not. Nobody writes to it.
                    memory = mmap.mmap(file.fileno(), 0)
            if memory is None or request.bytes > len(memory):
                log.error("a connection is closed: inputs beyond its memory")
                return
            count = request.bytes // request.dtype.itemsize
            inputs = np.frombuffer(memory, request.dtype, count).reshape(request.shape)
            try:
                output = self._runs.run(request.graph, inputs)
            except OutOfMemoryError as error:
                send_answer(connection, OUT_OF_MEMORY, [str(error).encode()])
            except Exception as error:
                text = str(error) if isinstance(error, EngineError) else repr(error)
                send_answer(connection, FAILED, [text.encode()])
            else:
                send_answer(connection, OUTPUT, pack_output(output))
            del inputs  # it would keep memory mapped that has been replaced


def main(settings: str) -> int:
    """Serves until standard input ends; `settings` is JSON of `config` and `socket`."""
    # Ctrl-C and a service manager's SIGTERM reach the whole process group. Front ends need their
    # engine while they drain.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    answer = answers_on_stdout()
    prepare_memory()
    given = json.loads(settings)
    config: ServerConfig = from_dict(ServerConfig, given["config"], at="")
    assert config.bundle is not None  # the supervisor has found one
    path = Path(config.bundle)
    try:
        bundle = open_bundle(path)
        engine = open_engine(bundle, config.engine)
        run_samples(bundle, engine, config.batch)
    except LOAD_ERRORS as error:
        answer({"error": str(load_failure(error, path))})
        return 1
    try:
        listener = _listener(Path(given["socket"]))
    except OSError as error:  # such as a folder of temporary files with too long a name
        answer({"error": f"engine: its socket, among temporary files ($TMPDIR): {one_line(error)}"})
        return 1
    settle_memory()
    host = EngineHost(engine, bundle.manifest.digest, config)
    threading.Thread(target=host.serve, args=(listener,), daemon=True).start()
    answer({"bundle": str(bundle.root)})
    sys.stdin.buffer.read()
    host.wait_until_left(config.limits.drain_s + _LEAVING_S)
    return 0


def _listener(address: Path) -> socket.socket:
    """A socket that listens, with as many descriptors for connections as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    address.unlink(missing_ok=True)  # that of the process before
    listener.bind(str(address))
    listener.listen(1024)
    return listener


if __name__ == "__main__":
    # Not sys.exit: threads that wait for front ends need not be waited for.
    os._exit(main(sys.argv[1]))
