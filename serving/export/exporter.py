"""An export from its settings to DONE.json, by one process among any number."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bundle.store import Bundle
from serving.engines.base import Engine
from serving.export.claim import claim
from serving.export.done import DONE, Done, Run, summary
from serving.export.inputs.base import Input
from serving.export.job import Job, OutputConfig
from serving.export.pipeline import Pipeline
from serving.export.place import Place
from serving.export.plan import PLAN, Plan, totals_of, write_plan
from serving.export.receipt import DATA, QUARANTINE, RECEIPTS, Receipt, commit, finished
from serving.export.table import tables_of

AHEAD = 2
"""Shards in work: while one is written, the next one is decoded."""
WAIT_S = 0.5
"""Between looks at shards that another worker makes."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A shard that is finished."""

    receipt: Receipt
    kept: bool
    """It was there before."""

    @property
    def entries(self) -> int:
        """Rows and what is in quarantine."""
        return self.receipt.rows + self.receipt.quarantined


def settle(
    source: Input,
    output: Place,
    bundle: Bundle,
    engine: Engine,
    outputs: OutputConfig,
    column: str = "",
    id_column: str = "",
) -> Job:
    """The job of an output folder: the one it holds, if it is the same, or a new one.

    Raises ExportError when the folder holds another, InputError for an input that cannot be listed.
    """
    found = Job.load(output)
    if found is None or not output.at(PLAN).exists():
        totals = write_plan(source, output, outputs.rows)
    else:
        totals = totals_of(source, outputs.rows)
    manifest = bundle.manifest
    job = Job(
        modality=source.modality,
        column=column,
        id_column=id_column,
        outputs=outputs,
        model=f"{manifest.name}/{manifest.version}",
        bundle=hashlib.sha256(manifest.to_json().encode()).hexdigest(),
        runtime=engine.description,
        entries=totals.entries,
        plan=totals.digest,
    )
    if found is None:
        job.save(output)
    else:
        found.refuse_other(job)
    return job


class Exporter:
    """Makes the shards of a job that are not there yet."""

    def __init__(
        self,
        job: Job,
        source: Input,
        output: Place,
        bundle: Bundle,
        engine: Engine,
        decoders: int,
    ) -> None:
        self._job, self._output, self._bundle = job, output, bundle
        self._plan = Plan.open(output)
        self._pipeline = Pipeline(bundle, engine, source, job.outputs.batch, decoders)
        self._writer = ThreadPoolExecutor(1, "write")
        self.clock = self._pipeline.clock
        self.shards, self.entries = self._plan.shards, self._plan.entries
        self.made = 0
        """Entries that this process has finished."""

    async def run(self, on_step: Callable[[Step], None]) -> Done:
        """Makes what is missing, waits for what others make, and writes DONE.json.

        Raises ExportError; what is finished by then stays.
        """
        await self._pipeline.start()

        def count(step: Step) -> None:
            self.made += 0 if step.kept else step.entries
            on_step(step)

        try:
            waiting = list(range(self.shards))
            while waiting:
                numbers = iter(waiting)
                left: list[int] = []
                async with asyncio.TaskGroup() as group:
                    for _ in range(AHEAD):
                        group.create_task(self._work(numbers, left, count))
                waiting = sorted(left)
                if waiting:
                    await asyncio.sleep(WAIT_S)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            await self._pipeline.close()
            self._writer.shutdown()
        for folder in (DATA, QUARANTINE, RECEIPTS):  # all is there: nobody writes any more
            self._output.at(folder).sweep()
        done = summary(self._output, self._job, self.shards, Run.of(self.clock, self.made))
        self._output.at(DONE).write(done.to_json())
        return done

    async def _work(
        self, numbers: Iterator[int], left: list[int], on_step: Callable[[Step], None]
    ) -> None:
        for number in numbers:
            with claim(self._output, number) as mine:
                if not mine:
                    left.append(number)
                    continue
                on_step(await self._shard(number))

    async def _shard(self, number: int) -> Step:
        loop = asyncio.get_running_loop()
        shard = await loop.run_in_executor(self._writer, self._plan.shard, number)
        receipt = await loop.run_in_executor(
            self._writer, finished, self._output, self._job.digest, shard
        )
        if receipt is not None:
            return Step(receipt=receipt, kept=True)
        rows = await self._pipeline.rows(shard.entries)

        def write() -> Receipt:
            with self.clock.busy("write"):
                shape = self._bundle.manifest.architecture
                text = self._job.modality == "text"
                width = shape.text_dense_dim if text else shape.dense_dim
                tables = tables_of(
                    shard.entries, rows, self._job.outputs, self._bundle.concepts, width
                )
                return commit(self._output, self._job.digest, shard, tables)

        return Step(receipt=await loop.run_in_executor(self._writer, write), kept=False)
