"""One process that decodes images, as the server sees it.

Encoded bytes and pixels pass through shared memory, so images cost two copies and two small
messages over what a thread would cost. S image side; pixels are float32 (3, S, S).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import mmap
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bundle.image import ImageLimits
from bundle.manifest import Preprocessing
from serving.core.errors import invalid
from serving.decoding.worker import request_of

_START_S = 30.0
_PAGE = mmap.ALLOCATIONGRANULARITY

_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20)}
"""glibc's malloc gives the memory of every image back to the system, and asking for it again
page by page costs a quarter of the decoding. A worker keeps so many bytes (mallopt(3))."""


class WorkerDiedError(RuntimeError):
    """A worker ended or hung."""


class DecodeProcess:
    """A process with its socket and shared memory, decoding up to `slots` images a request."""

    def __init__(self, preprocessing: Preprocessing, limits: ImageLimits, slots: int) -> None:
        size = preprocessing.size
        total = -(-slots * (limits.bytes + 4 * 3 * size * size) // _PAGE) * _PAGE
        ours, theirs = socket.socketpair()
        with theirs, _shared_file(total) as descriptor:
            self._memory = mmap.mmap(descriptor, total)
            settings = {
                "limits": dataclasses.asdict(limits),
                "preprocessing": dataclasses.asdict(preprocessing),
                "slots": slots,
                "socket": theirs.fileno(),
                "memory": descriptor,
                "bytes": total,
            }
            self.process = subprocess.Popen(
                # -P: a folder `serving` in the working directory is not ours.
                [sys.executable, "-P", "-m", "serving.decoding.worker", json.dumps(settings)],
                pass_fds=(theirs.fileno(), descriptor),
                stdin=subprocess.DEVNULL,
                env=_environment(),
            )
        self._pixels = np.frombuffer(
            self._memory, np.float32, slots * 3 * size * size, slots * limits.bytes
        ).reshape(slots, 3, size, size)
        self._slots, self._request = slots, request_of(slots)
        self._socket = ours
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(ours, self._on_reply)
        self._answer = self._expect(_START_S)
        self.ready = self._answer
        """Done when the process has imported what it needs; raises WorkerDiedError."""

    def decode(self, images: Sequence[bytes], seconds: float) -> asyncio.Future[Any]:
        """The future of a list with the pixels (3, S, S) of each image, or the ServingError of
        one that is not accepted.

        It raises WorkerDiedError when the process ends or takes longer than `seconds` an image.
        Cancelling it is not allowed: the process works on.
        """
        self._answer = self._expect(seconds * len(images))
        lengths, start = [0] * self._slots, 0
        for slot, data in enumerate(images):
            self._memory[start : start + len(data)] = data
            lengths[slot] = len(data)
            start += len(data)
        request = self._request.pack(len(images), *lengths)
        try:
            self._socket.send(request)  # few bytes: they always fit
        except OSError:
            self._fail()
        return self._answer

    def _expect(self, seconds: float) -> asyncio.Future[Any]:
        self._alarm = self._loop.call_later(seconds, self._fail)
        answer: asyncio.Future[Any] = self._loop.create_future()
        answer.add_done_callback(_retrieve)
        return answer

    def _on_reply(self) -> None:
        try:
            reply = self._socket.recv(4096)
        except OSError:
            reply = b""
        if not reply:
            self._loop.remove_reader(self._socket)
            self._fail()
            return
        self._alarm.cancel()
        if self._answer.done():
            return
        errors = json.loads(reply)
        pixels = self._pixels[: len(errors)].copy()
        self._answer.set_result(
            [
                pixels[slot] if error is None else invalid("image", error.removeprefix("image: "))
                for slot, error in enumerate(errors)
            ]
        )

    def _fail(self) -> None:
        self._alarm.cancel()
        if not self._answer.done():
            self._answer.set_exception(WorkerDiedError("the worker hung up, or took too long"))

    def close(self) -> None:
        """Ends the process; one that is at work is killed."""
        self._fail()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self.process.kill()
        self.process.wait()


def _retrieve(answer: asyncio.Future[Any]) -> None:
    """A caller that left does not want the exception; asyncio shall not log it as lost."""
    if not answer.cancelled():
        answer.exception()


@contextlib.contextmanager
def _shared_file(size: int) -> Iterator[int]:
    """A descriptor of memory without a name, to be mapped by two processes."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("sparseclip-decode")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.truncate(descriptor, size)
        yield descriptor
    finally:
        os.close(descriptor)


def _environment() -> dict[str, str]:
    """Ours, with our import path, and without a thread pool that a worker has no use for."""
    path = os.pathsep.join(entry or os.curdir for entry in sys.path)
    return {**_MALLOC, **os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
