"""A bounded pool of processes that decode pictures: a crash or a hang costs one picture.

Encoded bytes and pixels pass through shared memory, so a picture costs two copies and two small
messages over what a thread would cost. S image side; pixels are float32 (3, S, S).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import logging
import mmap
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.image import ImageLimits
from bundle.manifest import Preprocessing
from serving.decode_worker import LENGTH
from serving.errors import StartupError, internal, invalid
from serving.metrics import Metrics

log = logging.getLogger(__name__)

_START_S = 30.0
_PAGE = mmap.ALLOCATIONGRANULARITY


class WorkerDiedError(RuntimeError):
    """A worker ended or hung."""


class Worker:
    """One process with its socket and shared memory, decoding one picture at a time."""

    def __init__(self, preprocessing: Preprocessing, limits: ImageLimits) -> None:
        size = preprocessing.size
        total = -(-(limits.bytes + 4 * 3 * size * size) // _PAGE) * _PAGE
        ours, theirs = socket.socketpair()
        with theirs, _shared_file(total) as descriptor:
            self._memory = mmap.mmap(descriptor, total)
            settings = {
                "limits": dataclasses.asdict(limits),
                "preprocessing": dataclasses.asdict(preprocessing),
                "socket": theirs.fileno(),
                "memory": descriptor,
                "bytes": total,
            }
            self.process = subprocess.Popen(
                [sys.executable, "-m", "serving.decode_worker", json.dumps(settings)],
                pass_fds=(theirs.fileno(), descriptor),
                stdin=subprocess.DEVNULL,
                env=_environment(),
            )
        self._pixels = np.frombuffer(
            self._memory, np.float32, 3 * size * size, limits.bytes
        ).reshape(3, size, size)
        self._socket = ours
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(ours, self._on_reply)
        self._answer = self._expect(_START_S)
        self.ready = self._answer
        """Done when the process has imported what it needs; raises WorkerDiedError."""

    def decode(self, data: bytes, seconds: float) -> asyncio.Future[Any]:
        """The future of a picture's pixels (3, S, S).

        It raises ServingError for a picture that is not accepted, WorkerDiedError when the process
        ends or takes longer than `seconds`. Cancelling it is not allowed: the process works on.
        """
        self._answer = self._expect(seconds)
        self._memory[: len(data)] = data
        try:
            self._socket.send(LENGTH.pack(len(data)))  # few bytes: they always fit
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
        if reply[:1] == b"E":
            message = reply[1:].decode().removeprefix("image: ")
            self._answer.set_exception(invalid("image", message))
        else:
            self._answer.set_result(self._pixels.copy())

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


class DecodePool:
    """Hands pictures to workers; a worker that dies is replaced, and its picture fails."""

    def __init__(
        self,
        preprocessing: Preprocessing,
        limits: ImageLimits,
        *,
        workers: int,
        seconds: float,
        metrics: Metrics,
    ) -> None:
        self._preprocessing = preprocessing
        self._limits = limits
        self._count = workers
        self._seconds = seconds
        self._metrics = metrics
        self._workers: set[Worker] = set()
        # The last to have worked is the next to work: its caches are warm.
        self._idle: asyncio.LifoQueue[Worker] = asyncio.LifoQueue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def pids(self) -> frozenset[int]:
        """Process ids of the workers alive."""
        return frozenset(worker.process.pid for worker in self._workers)

    async def start(self) -> None:
        """Starts the workers. Raises StartupError when one does not come up."""
        try:
            await asyncio.gather(*(self._add() for _ in range(self._count)))
        except (OSError, WorkerDiedError):
            await self.close()
            raise StartupError("decode_workers: a worker does not start") from None

    async def decode(self, data: bytes) -> NDArray[np.float32]:
        """Pixels (3, S, S) of an encoded picture.

        Raises ServingError: INVALID for the picture, INTERNAL when its worker died. A cancelled
        call leaves at once; the worker finishes on its own before it takes another picture.
        """
        if len(data) > self._limits.bytes:  # what the shared memory holds
            raise invalid("image", f"{len(data)} bytes is over the limit of {self._limits.bytes}")
        worker = await self._idle.get()
        while worker.process.poll() is not None:  # it died idle, which is no picture's fault
            self._replace(worker)
            worker = await self._idle.get()
        answer = worker.decode(data, self._seconds)
        answer.add_done_callback(lambda done: self._on_done(worker, done))
        try:
            pixels: NDArray[np.float32] = await asyncio.shield(answer)
        except WorkerDiedError as error:
            log.error("decode: %s", error)
            raise internal() from None
        return pixels

    async def close(self) -> None:
        """Ends every worker."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._closed = True
        for worker in list(self._workers):
            self._remove(worker)

    def _on_done(self, worker: Worker, answer: asyncio.Future[Any]) -> None:
        if not isinstance(answer.exception(), WorkerDiedError):
            self._idle.put_nowait(worker)
        elif not self._closed:
            self._replace(worker)

    def _replace(self, worker: Worker) -> None:
        self._remove(worker)
        self._metrics.decode_restarts.inc()
        task = asyncio.get_running_loop().create_task(self._refill())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _refill(self) -> None:
        for delay in itertools.chain((0.0, 0.1, 0.5, 1.0), itertools.repeat(5.0)):
            await asyncio.sleep(delay)
            try:
                await self._add()
                return
            except (OSError, WorkerDiedError) as error:
                log.error("decode: a worker does not start: %s", error)

    async def _add(self) -> None:
        worker = Worker(self._preprocessing, self._limits)
        self._workers.add(worker)
        self._metrics.decode_workers.inc()
        try:
            await worker.ready
        except BaseException:
            self._remove(worker)
            raise
        self._idle.put_nowait(worker)

    def _remove(self, worker: Worker) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
            self._metrics.decode_workers.dec()
            worker.close()


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
    return {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
