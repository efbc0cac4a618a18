"""A bounded pool of processes that decode images: a crash or a hang costs one image.

S image side; pixels are float32 (3, S, S).
"""

from __future__ import annotations

import asyncio
import collections
import functools
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from bundle.bounded_log import BoundedLog
from bundle.image import ImageLimits
from bundle.manifest import Framing, Preprocessing
from bundle.preprocessor import ImagePixels
from serving.core.errors import ServingError, StartupError, internal, invalid
from serving.core.jpeg_decoder import JpegDecoder, check_installed
from serving.core.metrics import Metrics
from serving.core.priority_queue import PriorityQueue, WorkPriority
from serving.image_decoding.process import Decoded, DecodeProcess, ImageToDecode, WorkerDiedError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Job:
    image: ImageToDecode
    future: asyncio.Future[ImagePixels]


class DecodePool:
    """Hands images to workers. A worker that dies is replaced; what it was decoding fails.

    While more images wait than there are workers, a worker gets several in one request, which costs
    the server less. Each of them is decoded again, alone, if the worker dies.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        limits: ImageLimits,
        *,
        workers: int,
        seconds: float,
        metrics: Metrics,
        slots: int = 1,
        decoder: JpegDecoder = "pillow",
    ) -> None:
        """`seconds` is how long one image may take, `slots` how many images a request may hold."""
        self._decoder = decoder
        self._preprocessing = preprocessing
        self._limits = limits
        self._worker_count, self._slots = workers, slots
        self._seconds = seconds
        self._metrics = metrics
        self._log = BoundedLog(logging.getLogger(__name__))
        self._workers: set[DecodeProcess] = set()
        self._idle: list[DecodeProcess] = []
        """Last in, first out: the worker that finished last has warm caches."""
        self._waiting: PriorityQueue[_Job] = PriorityQueue()
        self._alone: collections.deque[_Job] = collections.deque()
        """Images of requests in which a worker died: the next one gets each by itself."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def pids(self) -> frozenset[int]:
        """Process ids of the live workers."""
        return frozenset(worker.process.pid for worker in self._workers)

    async def start(self) -> None:
        """Starts the workers. Raises StartupError when one does not come up."""
        check_installed(self._decoder)
        try:
            await asyncio.gather(*(self._add() for _ in range(self._worker_count)))
        except (OSError, WorkerDiedError):
            await self.close()
            field = "decode_workers" if self._decoder == "pillow" else f"decoder: {self._decoder}"
            raise StartupError(f"{field}: a worker does not start") from None

    def submit(
        self, data: bytes, framing: Framing | None = None, priority: WorkPriority = "interactive"
    ) -> asyncio.Future[ImagePixels]:
        """Pixels (3, S, S) of an encoded image, and what they cover.

        `framing` is one of the preprocessing's `framings`; None takes the model's own. The future
        raises ServingError: INVALID for an image or a framing that is not accepted, INTERNAL when
        the worker died. An image whose future is cancelled is decoded only if a worker has it.
        """
        future = self._enqueue(data, framing, priority)
        self._dispatch()
        return future

    def _enqueue(
        self, data: bytes, framing: Framing | None, priority: WorkPriority
    ) -> asyncio.Future[ImagePixels]:
        future: asyncio.Future[ImagePixels] = asyncio.get_running_loop().create_future()
        offered, limit = self._preprocessing.framings, self._limits.bytes
        if framing is not None and framing not in offered:
            error = invalid("framing", f"the model offers {' and '.join(offered) or 'none'}")
            future.set_exception(error)
        elif len(data) > limit:  # the shared memory has this many bytes for each image
            future.set_exception(
                invalid("image", f"{len(data)} bytes is over the limit of {limit}")
            )
        elif self._closed:
            future.set_exception(internal())
        else:
            number = self._waiting.push(
                _Job(image=ImageToDecode(data, framing), future=future), priority
            )
            future.add_done_callback(functools.partial(self._on_result, number))
        return future

    async def decode(self, data: bytes, framing: Framing | None = None) -> ImagePixels:
        """The result of `submit`."""
        return await self.submit(data, framing)

    async def decode_many(
        self, images: Sequence[bytes], framing: Framing | None = None
    ) -> list[Decoded]:
        """What `submit` gives for each image, its error included. They share requests."""
        futures = [self._enqueue(data, framing, "bulk") for data in images]
        self._dispatch()
        results = await asyncio.gather(*futures, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, ServingError):
                raise result
        return results  # type: ignore[return-value]  # no other exception is left

    def _on_result(self, number: int, future: asyncio.Future[ImagePixels]) -> None:
        self._waiting.remove(number)
        if not future.cancelled():
            future.exception()  # marked as retrieved: a caller that left never asks for it

    def _dispatch(self) -> None:
        """Gives idle workers what waits."""
        while self._idle and (self._waiting or self._alone):
            worker = self._idle.pop()
            if not worker.alive:  # it died while it was idle: no image fails
                self._replace(worker)
                continue
            jobs = self._next_jobs()
            reply = worker.decode([job.image for job in jobs], self._seconds)
            reply.add_done_callback(functools.partial(self._on_reply, worker, jobs))

    def _next_jobs(self) -> list[_Job]:
        """The images of one request: those that wait, divided among all workers."""
        if self._alone:
            return [self._alone.popleft()]
        each = -(-len(self._waiting) // max(1, len(self._workers)))
        return [self._waiting.pop() for _ in range(min(self._slots, each))]

    async def close(self) -> None:
        """Ends every worker. Images that are still waiting fail."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._closed = True
        for worker in list(self._workers):
            self._remove(worker)
        while self._waiting or self._alone:
            _fail(self._next_jobs())
        self._log.close()

    def _on_reply(
        self, worker: DecodeProcess, jobs: list[_Job], reply: asyncio.Future[list[Decoded]]
    ) -> None:
        error = reply.exception()
        if error is None:
            self._idle.append(worker)
            for job, decoded in zip(jobs, reply.result(), strict=True):
                if job.future.done():
                    continue
                if isinstance(decoded, ServingError):
                    job.future.set_exception(decoded)
                else:
                    job.future.set_result(decoded)
        elif self._closed:
            _fail(jobs)
        else:
            self._log.error("decode: %s", error)
            self._replace(worker)
            if len(jobs) == 1:
                _fail(jobs)
            else:
                self._alone.extend(job for job in jobs if not job.future.done())
        self._dispatch()

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
        worker = DecodeProcess(self._preprocessing, self._limits, self._slots, self._decoder)
        self._workers.add(worker)
        self._metrics.decode_workers.inc()
        try:
            await worker.ready
        except BaseException:
            self._remove(worker)
            raise
        self._idle.append(worker)
        self._dispatch()

    def _remove(self, worker: DecodeProcess) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
            self._metrics.decode_workers.dec()
            worker.close()


def _fail(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_exception(internal())
