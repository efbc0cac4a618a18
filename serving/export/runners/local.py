"""One worker, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from serving.export.job import Job
from serving.export.progress import Step
from serving.export.request import Task
from serving.export.worker import Exporter


def run(task: Task, job: Job, numbers: Sequence[int], on_step: Callable[[Step], None]) -> None:
    """Makes the shards. Raises what Exporter raises."""

    async def work() -> None:
        async with Exporter(task, job) as exporter:
            await exporter.run(numbers, on_step)

    asyncio.run(work())
