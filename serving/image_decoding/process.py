"""One decoding process, seen from the server. S image side; pixels are float32 (3, S, S).

Encoded bytes and pixels pass through shared memory, whose layout worker.py describes. Compared with
a thread, an image costs two more copies and two small messages; a crash or a hang costs one image.
"""

from __future__ import annotations

import asyncio
import dataclasses
import mmap
import os
import socket
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bundle.image import ImageLimits
from bundle.manifest import Framing, Preprocessing
from bundle.preprocessor import ImagePixels
from serving.core.child_process import python_module, python_path
from serving.core.errors import ServingError, invalid
from serving.core.jpeg_decoder import JpegDecoder
from serving.core.memory import KEPT_BLOCK, KEPT_TOP
from serving.core.shared_memory import anonymous_file
from serving.image_decoding.messages import (
    MAX_MESSAGE_BYTES,
    READY,
    RequestedImage,
    pack_request,
    unpack_reply,
)

_START_TIMEOUT_S = 30.0
_PAGE_BYTES = mmap.ALLOCATIONGRANULARITY

_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(KEPT_BLOCK), "MALLOC_TRIM_THRESHOLD_": str(KEPT_TOP)}
"""A quarter of the decoding time would go into asking for the memory of each image again."""


class ImageToDecode(NamedTuple):
    """An image to decode."""

    data: bytes
    framing: Framing | None = None
    """None is the model's own."""


Decoded = ImagePixels | ServingError
"""What became of an image; the error is INVALID."""


class WorkerDiedError(RuntimeError):
    """A worker ended, or took too long."""


class DecodeProcess:
    """A process with its socket and shared memory; it decodes up to `slots` images per request."""

    def __init__(
        self,
        preprocessing: Preprocessing,
        limits: ImageLimits,
        slots: int,
        decoder: JpegDecoder = "pillow",
    ) -> None:
        size = preprocessing.size
        pixels_bytes = 4 * 3 * size * size
        memory_bytes = -(-slots * (limits.bytes + pixels_bytes) // _PAGE_BYTES) * _PAGE_BYTES
        self._socket, worker_socket = socket.socketpair()
        with worker_socket, anonymous_file(memory_bytes, "decode") as descriptor:
            self._memory = mmap.mmap(descriptor, memory_bytes)
            settings = {
                "limits": dataclasses.asdict(limits),
                "preprocessing": dataclasses.asdict(preprocessing),
                "slots": slots,
                "decoder": decoder,
                "socket": worker_socket.fileno(),
                "memory": descriptor,
                "bytes": memory_bytes,
            }
            self.process = subprocess.Popen(
                python_module("serving.image_decoding.worker", settings),
                pass_fds=(worker_socket.fileno(), descriptor),
                stdin=subprocess.DEVNULL,
                env=_environment(),
            )
        self._pixels = np.frombuffer(
            self._memory, np.float32, slots * 3 * size * size, slots * limits.bytes
        ).reshape(slots, 3, size, size)
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._on_reply)
        self.alive = True
        """False from when the process is known to have ended."""
        self._reply = self.ready = self._expect_reply(_START_TIMEOUT_S)
        """Done when the process has imported what it needs; raises WorkerDiedError."""

    def decode(
        self, images: Sequence[ImageToDecode], seconds: float
    ) -> asyncio.Future[list[Decoded]]:
        """Decodes up to `slots` images, none larger than the limit; one request at a time.

        The future gives what became of each image. It raises WorkerDiedError when the process ends,
        or takes longer than `seconds` per image. It must not be cancelled: the process would work
        on, in memory that the next request then overwrites.
        """
        self._reply = self._expect_reply(seconds * len(images))
        start = 0
        for data, _ in images:
            self._memory[start : start + len(data)] = data
            start += len(data)
        request = pack_request(RequestedImage(framing, len(data)) for data, framing in images)
        try:
            self._socket.send(request)  # it fits the buffer
        except OSError:
            self._fail()
        return self._reply

    def _expect_reply(self, seconds: float) -> asyncio.Future[list[Decoded]]:
        self._timeout = self._loop.call_later(seconds, self._fail)
        reply: asyncio.Future[list[Decoded]] = self._loop.create_future()
        reply.add_done_callback(_mark_retrieved)
        return reply

    def _on_reply(self) -> None:
        try:
            message = self._socket.recv(MAX_MESSAGE_BYTES)
        except OSError:
            message = b""
        if not message:  # the process has ended
            self._loop.remove_reader(self._socket)
            self._fail()
            return
        self._timeout.cancel()
        if not self._reply.done():
            self._reply.set_result([] if message == READY else self._decoded(message))

    def _decoded(self, message: bytes) -> list[Decoded]:
        replies = unpack_reply(message)
        pixels = self._pixels[: len(replies)].copy()  # the next request overwrites the slots
        return [
            invalid("image", reply.removeprefix("image: "))
            if isinstance(reply, str)
            else ImagePixels(pixels[slot], reply)
            for slot, reply in enumerate(replies)
        ]

    def _fail(self) -> None:
        self.alive = False
        self._timeout.cancel()
        if not self._reply.done():
            self._reply.set_exception(WorkerDiedError("the worker ended, or took too long"))

    def close(self) -> None:
        """Kills the process; a request in flight raises WorkerDiedError."""
        self._fail()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self.process.kill()
        self.process.wait()


def _mark_retrieved(reply: asyncio.Future[list[Decoded]]) -> None:
    """Keeps asyncio from logging an exception as lost when the caller has left."""
    if not reply.cancelled():
        reply.exception()


def _environment() -> dict[str, str]:
    """This process's environment and import path, and one OpenBLAS thread: workers need no more."""
    return {**_MALLOC, **os.environ, "PYTHONPATH": python_path(), "OPENBLAS_NUM_THREADS": "1"}
