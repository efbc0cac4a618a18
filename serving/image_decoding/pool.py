"""A bounded pool of processes that decode images: a crash or a hang costs one image.

S image side; pixels are float32 (3, S, S).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence
from typing import Any

from bundle.bounded_log import BoundedLog
from bundle.image import ImageLimits
from bundle.manifest import Framing, Preprocessing
from bundle.preprocessor import ImagePixels
from serving.core.errors import ServingError, StartupError, internal, invalid
from serving.core.metrics import Metrics
from serving.image_decoding.process import DecodeProcess, WorkerDiedError


class DecodePool:
    """Hands images to workers. A worker that dies is replaced; what it was decoding fails."""

    def __init__(
        self,
        preprocessing: Preprocessing,
        limits: ImageLimits,
        *,
        workers: int,
        seconds: float,
        metrics: Metrics,
        slots: int = 1,
    ) -> None:
        """`seconds` is how long one image may take, `slots` how many images a request may hold."""
        self._preprocessing = preprocessing
        self._limits = limits
        self._worker_count, self._slots = workers, slots
        self._seconds = seconds
        self._metrics = metrics
        self._log = BoundedLog(logging.getLogger(__name__))
        self._workers: set[DecodeProcess] = set()
        # Last in, first out: the worker that finished last has warm caches.
        self._idle: asyncio.LifoQueue[DecodeProcess] = asyncio.LifoQueue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def pids(self) -> frozenset[int]:
        """Process ids of the live workers."""
        return frozenset(worker.process.pid for worker in self._workers)

    async def start(self) -> None:
        """Starts the workers. Raises StartupError when one does not come up."""
        try:
            await asyncio.gather(*(self._add() for _ in range(self._worker_count)))
        except (OSError, WorkerDiedError):
            await self.close()
            raise StartupError("decode_workers: a worker does not start") from None

    async def decode(self, data: bytes, framing: Framing | None = None) -> ImagePixels:
        """Pixels (3, S, S) of an encoded image, and what they cover.

        `framing` is one of the preprocessing's `framings`; None takes the model's own. Raises
        ServingError: INVALID for an image or a framing that is not accepted, INTERNAL when the
        worker died. A cancelled call returns at once; its worker finishes before it takes another
        image.
        """
        [decoded] = await self.decode_many([data], framing)
        if isinstance(decoded, ServingError):
            raise decoded
        return decoded

    async def decode_many(
        self, images: Sequence[bytes], framing: Framing | None = None
    ) -> list[ImagePixels | ServingError]:
        """Decodes up to `slots` images with one worker: the pixels or the INVALID error of each.

        Raises ServingError: INVALID for a framing that the model does not offer, INTERNAL when the
        worker died.
        """
        offered = self._preprocessing.framings
        if framing is not None and framing not in offered:
            raise invalid("framing", f"the model offers {' and '.join(offered) or 'none'}")
        limit = self._limits.bytes  # the shared memory has this many bytes for each image
        accepted = [data for data in images if len(data) <= limit]
        decoded = iter(await self._decode_with_worker(accepted, framing) if accepted else ())
        return [
            next(decoded)
            if len(data) <= limit
            else invalid("image", f"{len(data)} bytes is over the limit of {limit}")
            for data in images
        ]

    async def _decode_with_worker(
        self, images: Sequence[bytes], framing: Framing | None
    ) -> list[ImagePixels | ServingError]:
        worker = await self._idle.get()
        while worker.process.poll() is not None:  # it died while it was idle: no image fails
            self._replace(worker)
            worker = await self._idle.get()
        reply = worker.decode(images, self._seconds, framing)
        # The callback, not this coroutine, makes the worker idle again: a cancelled call leaves
        # here while its worker is still decoding.
        reply.add_done_callback(lambda done: self._on_reply(worker, done))
        try:
            decoded: list[ImagePixels | ServingError] = await asyncio.shield(reply)
        except WorkerDiedError as error:
            self._log.error("decode: %s", error)
            raise internal() from None
        return decoded

    async def close(self) -> None:
        """Ends every worker."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._closed = True
        for worker in list(self._workers):
            self._remove(worker)
        self._log.close()

    def _on_reply(self, worker: DecodeProcess, reply: asyncio.Future[Any]) -> None:
        if not isinstance(reply.exception(), WorkerDiedError):
            self._idle.put_nowait(worker)
        elif not self._closed:
            self._replace(worker)

    def _replace(self, worker: DecodeProcess) -> None:
        self._remove(worker)
        self._metrics.decode_restarts.inc()
        task = asyncio.get_running_loop().create_task(self._refill())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _refill(self) -> None:
        """Starts a worker, after longer and longer pauses while that fails."""
        for delay in itertools.chain((0.0, 0.1, 0.5, 1.0), itertools.repeat(5.0)):
            await asyncio.sleep(delay)
            try:
                await self._add()
                return
            except (OSError, WorkerDiedError) as error:
                self._log.error("decode: a worker does not start: %s", error)

    async def _add(self) -> None:
        worker = DecodeProcess(self._preprocessing, self._limits, self._slots)
        self._workers.add(worker)
        self._metrics.decode_workers.inc()
        try:
            await worker.ready
        except BaseException:
            self._remove(worker)
            raise
        self._idle.put_nowait(worker)

    def _remove(self, worker: DecodeProcess) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
            self._metrics.decode_workers.dec()
            worker.close()
