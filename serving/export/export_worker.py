"""A worker: makes the shards that it is given."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from bundle.plugins import PluginError
from bundle.resizing import resizer
from bundle.store import BundleError
from serving.core.errors import StartupError
from serving.core.jpeg_decoder import described
from serving.engine_plans.open_engine import open_engine, runtime_of
from serving.engines.base import EngineConfig, EngineError
from serving.export.columns import build_tables
from serving.export.export_request import LOCKS, ExportRequest
from serving.export.formats import FORMATS
from serving.export.generations import Generations
from serving.export.inputs.base import InputError
from serving.export.job import ExportError, ExportJob
from serving.export.pipeline import Pipeline
from serving.export.progress import OnProgress, WorkerProgress
from serving.export.receipt import Receipt, commit_shard, file_stem
from serving.export.verify_export import check_shard
from serving.storage.location import LocationError
from serving.storage.parallel import map_in_threads

WORKER_ERRORS = (
    BundleError,
    EngineError,
    ExportError,
    InputError,
    LocationError,
    PluginError,
    StartupError,
)
"""What a worker raises when it cannot go on; each message says why."""

SHARDS_IN_FLIGHT = 2
"""Shards that a worker makes at the same time: while one is written, the next one is decoded."""
SHARDS_PER_CHECK = 1024
"""How many shards are checked for completion before the missing ones among them are made."""
POLL_S = 0.5
"""Time between two looks at shards that another worker makes."""


def worker_engine(request: ExportRequest) -> EngineConfig:
    """The engine of a worker: one thread per run, one run per core. Throughput is the same as with
    runs of several threads, and results do not depend on the core count because no reduction is
    split across threads."""
    return dataclasses.replace(request.engine, threads=request.engine.threads or 1)


class ExportWorker:
    """Everything that a worker needs, open while it is a context."""

    def __init__(self, request: ExportRequest, job: ExportJob) -> None:
        """Raises one of WORKER_ERRORS; ExportError when the model would run on something else than
        the job says, which might give other bytes."""
        self._job, self._output = job, request.open_output()
        self._bundle = request.bundle.opened
        engine = open_engine(self._bundle, worker_engine(request), request.cores)
        _ = self._bundle.tokenizer, self._bundle.concepts  # read now, and then compared
        self._bundle.check_unchanged()
        runtime = runtime_of(self._bundle, request.engine)
        if runtime != job.runtime:
            engine.close()
            raise ExportError(f"runtime is {runtime!r} here, not {job.runtime!r}")
        if job.resizer not in ("", resizer()):
            engine.close()
            raise ExportError(f"resizer is {resizer()!r} here, not {job.resizer!r}")
        if job.modality == "image" and (here := described(request.decoder)) != job.decoder:
            engine.close()
            raise ExportError(f"decoder is {here!r} here, not {job.decoder!r}")
        generations = Generations.load(self._output, job.generation)
        if generations is None or generations.job != job:
            raise ExportError("the job of the output has changed; run the export again")
        self._generations = generations
        self._format = FORMATS.load(job.outputs.format)()
        self._pipeline = Pipeline(
            self._bundle,
            engine,
            request.open_input(),
            job.outputs,
            request.decoders,
            request.decoder,
        )
        self._writer = ThreadPoolExecutor(1, "write")
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    async def __aenter__(self) -> Self:
        await self._pipeline.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pipeline.close()
        self._writer.shutdown()

    async def run(self, numbers: Sequence[int], on_progress: OnProgress) -> None:
        """Makes those of the shards that are missing, and waits for those that others make.

        Raises ExportError; shards that are finished by then stay.
        """
        locked: list[int] = []
        for first in range(0, len(numbers), SHARDS_PER_CHECK):
            missing = await self._missing(numbers[first : first + SHARDS_PER_CHECK], on_progress)
            locked += await self._make(missing, on_progress)
        # A worker that holds a lock may be killed, and its shard is then made here.
        while locked:
            await asyncio.sleep(POLL_S)
            locked = await self._make(sorted(locked), on_progress)

    async def _missing(self, numbers: Sequence[int], on_progress: OnProgress) -> list[int]:
        """The shards that are not finished; reports the others."""
        loop = asyncio.get_running_loop()

        def read_receipts() -> list[Receipt | None]:
            return list(map_in_threads(self._finished, numbers))

        missing: list[int] = []
        receipts = await loop.run_in_executor(self._writer, read_receipts)
        for number, receipt in zip(numbers, receipts, strict=True):
            if receipt is None:
                missing.append(number)
            else:
                on_progress(self._progress(receipt.entries, kept=True))
        return missing

    async def _make(self, numbers: Sequence[int], on_progress: OnProgress) -> list[int]:
        """Makes shards, and gives the numbers of those that another worker has locked."""
        waiting, locked = iter(numbers), list[int]()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(SHARDS_IN_FLIGHT):
                    group.create_task(self._make_each(waiting, locked, on_progress))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return locked

    async def _make_each(
        self, numbers: Iterator[int], locked: list[int], on_progress: OnProgress
    ) -> None:
        # All tasks take their next shard from the same iterator.
        for number in numbers:
            with self._output.at(f"{LOCKS}/{file_stem(number)}").try_lock() as held:
                if held:
                    await self._make_one(number, on_progress)
                else:
                    locked.append(number)

    async def _make_one(self, number: int, on_progress: OnProgress) -> None:
        loop = asyncio.get_running_loop()
        receipt = await loop.run_in_executor(self._writer, self._finished, number)
        if receipt is not None:  # another worker finished it before it was locked here
            on_progress(self._progress(receipt.entries, kept=True))
            return
        shard = await loop.run_in_executor(self._writer, self._generations.shard, number)
        results = await self._pipeline.rows(
            shard.entries, lambda count: on_progress(self._progress(count, kept=False))
        )

        def write() -> Receipt:
            job = self._job
            with self._pipeline.timer.busy("write"):
                tables = build_tables(
                    shard.entries,
                    results,
                    job.outputs,
                    self._bundle,
                    job.modality,
                    shard.generation,
                )
                return commit_shard(self._output, shard, tables, self._format)

        await loop.run_in_executor(self._writer, write)
        on_progress(self._progress(0, kept=False))  # the time that it took to write

    def _finished(self, number: int) -> Receipt | None:
        """The receipt of a shard whose files are as it says."""
        check = check_shard(self._generations, number)
        return None if check.problems else check.receipt

    def _progress(self, entries: int, *, kept: bool) -> WorkerProgress:
        return WorkerProgress(
            worker=self._name,
            entries=entries,
            kept=kept,
            stages=self._pipeline.timer.stages,
        )
