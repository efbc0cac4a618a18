"""One worker, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar, Self

from serving.engines.base import available_cores
from serving.export.job import ExportError, Job
from serving.export.request import Task
from serving.export.runners.base import OnStep
from serving.export.worker import Exporter


class LocalRunner:
    """See Runner."""

    has_address: ClassVar[bool] = False

    @classmethod
    def open(cls, workers: int, address: str = "") -> Self:
        """See Runner.open."""
        if workers != 1:
            raise ExportError("workers: the runner local has one; the runner processes has several")
        return cls()

    @classmethod
    def default_cores(cls, workers: int) -> int:
        """All cores of this machine."""
        return available_cores()

    def run(self, task: Task, job: Job, numbers: Sequence[int], on_step: OnStep) -> None:
        """See Runner.run. Raises what Exporter raises as well."""

        async def work() -> None:
            async with Exporter(task, job) as exporter:
                await exporter.run(numbers, on_step)

        asyncio.run(work())
