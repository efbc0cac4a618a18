"""Workers on a Ray cluster, as actors of one Ray Data pipeline over the numbers of the shards."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import ray
import ray.data
from ray.exceptions import RayError

from serving.export.bounds import MAX_WORKERS
from serving.export.export_request import ExportRequest
from serving.export.export_worker import SHARDS_IN_FLIGHT, WORKER_ERRORS, ExportWorker
from serving.export.job import ExportError, ExportJob
from serving.export.progress import OnProgress, WorkerProgress

SHARDS_PER_CALL = 2 * SHARDS_IN_FLIGHT
"""Shards that an actor gets at once: enough that it need not wait for the next ones."""
CONNECT_S = 5.0
_ERROR = "error: "


class RayRunner:
    """See Runner. The shards of an actor or a node that dies are given to another one."""

    has_address: ClassVar[bool] = True

    def __init__(self, workers: int, address: str) -> None:
        self._workers, self._address = workers, address

    @classmethod
    def open(cls, workers: int, address: str = "") -> Self:
        """See Runner.open. Without an address, a Ray of this machine is started for the export."""
        return cls(workers, address)

    @classmethod
    def max_workers(cls) -> int:
        """As many as a user may ask for: Ray starts those that the cluster has space for."""
        return MAX_WORKERS

    @classmethod
    def default_cores(cls, workers: int) -> int:
        """One: the cores of this machine say nothing about those of the cluster."""
        return 1

    def run(
        self,
        request: ExportRequest,
        job: ExportJob,
        numbers: Sequence[int],
        on_progress: OnProgress,
    ) -> None:
        """See Runner.run."""
        _refuse_silence(self._address)
        started = not ray.is_initialized()
        if started:
            self._connect()
        try:
            for message in self._messages(request, job, numbers):
                if message.startswith(_ERROR):
                    raise ExportError(message.removeprefix(_ERROR))
                on_progress(WorkerProgress.from_json(message))
        except RayError as error:
            line = str(error).splitlines()[0]
            raise ExportError(f"ray: {line}; what is finished stays") from None
        finally:
            if started:
                ray.shutdown()

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports to its makers otherwise
        # Ray logs an error at each start, of no consequence, beside our own lines.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(
                address=self._address or "local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ExportError(f"--address: {self._address}: {error}") from None
        # Ray's own handler aborts this process with a trace of its stack.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)

    def _messages(
        self, request: ExportRequest, job: ExportJob, numbers: Sequence[int]
    ) -> Iterator[str]:
        """What the actors report: a WorkerProgress as JSON for every shard, or an error's text."""
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False  # the command shows its own
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        blocks = -(-len(numbers) // SHARDS_PER_CALL)
        messages = ray.data.from_items(list(numbers), override_num_blocks=blocks).map_batches(
            _Actor,
            fn_constructor_args=(request, job),
            batch_size=SHARDS_PER_CALL,
            compute=ray.data.ActorPoolStrategy(size=self._workers),
            num_cpus=request.cores,
            num_gpus=1 if request.engine.device == "cuda" else 0,
        )
        for row in messages.iter_rows():
            yield row["message"]


def _refuse_silence(address: str) -> None:
    """Raises ExportError when nobody listens at HOST:PORT: Ray itself tries for many minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise ExportError(f"--address: {address}: {error}") from None


class _Actor:
    """One worker, open as long as its actor lives. It returns its errors as data, because Ray
    starts an actor that raises again and again."""

    def __init__(self, request: ExportRequest, job: ExportJob) -> None:
        self._request, self._job = request, job
        self._runner = asyncio.Runner()
        self._worker: ExportWorker | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        messages: list[str] = []
        numbers = [int(number) for number in batch["item"]]
        try:
            self._runner.run(self._make(numbers, lambda shard: messages.append(shard.to_json())))
        except WORKER_ERRORS as error:
            messages.append(f"{_ERROR}{error}")
        return {"message": messages}

    async def _make(self, numbers: Sequence[int], on_progress: OnProgress) -> None:
        if self._worker is None:
            self._worker = await ExportWorker(self._request, self._job).__aenter__()
        await self._worker.run(numbers, on_progress)
