"""The contract of a peer: a server in a process of its own, and how to call it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import psutil
from numpy.typing import NDArray

START_S = 300.0
"""How long a server may take to start."""


class EmbeddingCaller(Protocol):
    """Calls one server. A message is encoded once and sent many times, so that the caller takes
    little of the cores that it shares with the server."""

    def message(self, images: Sequence[bytes]) -> bytes:
        """One call for all of these encoded images."""

    async def send(self, message: bytes) -> bytes:
        """The reply.

        Raises RefusedError when the server has too much to do and says so, and RuntimeError for
        every other failure, one of a single image included.
        """

    def vectors(self, reply: bytes) -> NDArray[np.float32]:
        """The dense vectors of a reply, (B, D)."""


class RefusedError(Exception):
    """The server has too much to do, and says so."""


@dataclass(frozen=True, kw_only=True)
class PeerServer:
    """A server that runs."""

    description: str
    """Program, version and settings."""
    process: psutil.Process
    calling: Callable[[], AbstractAsyncContextManager[EmbeddingCaller]]

    def memory_mib(self) -> float:
        """Resident memory of the server and its children, in MiB."""
        family = [self.process, *self.process.children(recursive=True)]
        return round(sum(one.memory_info().rss for one in family) / 2**20, 1)


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def process_until(
    command: Sequence[str], ready: Callable[[], bool], environment: dict[str, str]
) -> Iterator[psutil.Process]:
    """Runs a command, waits until `ready` says yes, and ends it afterwards."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(list(command), env=environment, stdout=log, stderr=log)
        try:
            end = time.monotonic() + START_S
            while not ready():
                if process.poll() is not None:
                    log.seek(0)
                    raise SystemExit(f"{command[0]}: ended before it served:\n{log.read()[-2000:]}")
                if time.monotonic() > end:
                    raise SystemExit(f"{command[0]}: did not serve within {START_S:.0f} s")
                time.sleep(0.5)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
