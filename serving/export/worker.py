"""A worker: makes the shards that it is given."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from bundle.plugins import PluginError
from bundle.store import BundleError, open_bundle
from serving.core.errors import StartupError
from serving.engines.base import EngineConfig, EngineError, open_engine
from serving.export.columns import tables_of
from serving.export.formats import FORMATS
from serving.export.inputs.base import InputError
from serving.export.job import ExportError, Job
from serving.export.pipeline import Pipeline
from serving.export.plan import Plan
from serving.export.progress import Step
from serving.export.receipt import Receipt, commit
from serving.export.request import Task
from serving.export.shard_lock import claim
from serving.export.verify import checked_shard
from serving.storage.location import PlaceError
from serving.storage.parallel import mapped

ERRORS = (BundleError, EngineError, ExportError, InputError, PlaceError, PluginError, StartupError)
"""What a worker raises when it cannot go on; each says why."""

SHARDS_IN_FLIGHT = 2
"""Shards that a worker makes at the same time: while one is written, the next one is decoded."""
LOOKED_AT = 1024
"""Shards of which it is found out at once whether they are finished."""
WAIT_S = 0.5
"""Between looks at shards that another worker makes."""


def engine_of(task: Task) -> EngineConfig:
    """A thread a run, and a run a core: as many rows a second as runs of several threads, and no
    sum is split by how many cores there are, on which a row's last bits might depend."""
    return dataclasses.replace(task.engine, threads=task.engine.threads or 1)


class Exporter:
    """Everything that a worker needs, open while it is a context."""

    def __init__(self, task: Task, job: Job) -> None:
        """Raises one of ERRORS; ExportError when the model would run on something else than the job
        says."""
        self._job, self._output = job, task.open_output()
        self._bundle = open_bundle(task.bundle)
        engine = open_engine(self._bundle, engine_of(task), task.cores)
        if engine.description != job.runtime:
            raise ExportError(f"runtime is {engine.description!r} here, not {job.runtime!r}")
        self._plan = Plan.of(self._output, job)
        self._format = FORMATS.load(job.outputs.format)()
        self._pipeline = Pipeline(
            self._bundle, engine, task.open_input(), job.outputs, task.decoders
        )
        self._writer = ThreadPoolExecutor(1, "write")
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    async def __aenter__(self) -> Self:
        await self._pipeline.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pipeline.close()
        self._writer.shutdown()

    async def run(self, numbers: Sequence[int], on_step: Callable[[Step], None]) -> None:
        """Makes those of the shards that are missing, and waits for what others make.

        Raises ExportError; what is finished by then stays.
        """
        left: list[int] = []
        for first in range(0, len(numbers), LOOKED_AT):
            missing = await self._missing(numbers[first : first + LOOKED_AT], on_step)
            left += await self._made(missing, on_step)
        while left:
            await asyncio.sleep(WAIT_S)
            left = await self._made(sorted(left), on_step)

    async def _missing(self, numbers: Sequence[int], on_step: Callable[[Step], None]) -> list[int]:
        """Those that are not finished, looked at many at a time."""
        loop = asyncio.get_running_loop()

        def look() -> list[Receipt | None]:
            return list(mapped(self._finished, numbers))

        missing: list[int] = []
        receipts = await loop.run_in_executor(self._writer, look)
        for number, receipt in zip(numbers, receipts, strict=True):
            if receipt is None:
                missing.append(number)
            else:
                on_step(self._step(receipt, kept=True))
        return missing

    async def _made(self, numbers: Sequence[int], on_step: Callable[[Step], None]) -> list[int]:
        """Makes those that no other worker makes; gives the others."""
        given, left = iter(numbers), list[int]()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(SHARDS_IN_FLIGHT):
                    group.create_task(self._work(given, left, on_step))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return left

    async def _work(
        self, numbers: Iterator[int], left: list[int], on_step: Callable[[Step], None]
    ) -> None:
        for number in numbers:
            with claim(self._output, number) as mine:
                if mine:
                    on_step(await self._shard(number))
                else:
                    left.append(number)

    async def _shard(self, number: int) -> Step:
        loop = asyncio.get_running_loop()
        receipt = await loop.run_in_executor(self._writer, self._finished, number)
        if receipt is not None:  # another worker made it
            return self._step(receipt, kept=True)
        shard = await loop.run_in_executor(self._writer, self._plan.shard, number)
        rows = await self._pipeline.rows(shard.entries)

        def write() -> Receipt:
            job = self._job
            with self._pipeline.clock.busy("write"):
                tables = tables_of(shard.entries, rows, job.outputs, self._bundle, job.modality)
                return commit(self._output, job.digest, shard, tables, self._format)

        return self._step(await loop.run_in_executor(self._writer, write), kept=False)

    def _finished(self, number: int) -> Receipt | None:
        """The receipt of a shard whose files are as it says."""
        found = checked_shard(self._output, self._plan, self._job.digest, number)
        return None if found.problems else found.receipt

    def _step(self, receipt: Receipt, *, kept: bool) -> Step:
        return Step(
            worker=self._name,
            entries=receipt.rows + receipt.quarantined,
            kept=kept,
            stages=self._pipeline.clock.stages,
        )
