"""One worker, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from serving.engines.base import available_cores
from serving.export.export_request import ExportRequest
from serving.export.export_worker import ExportWorker
from serving.export.job import ExportError, ExportJob
from serving.export.progress import OnProgress


class LocalRunner:
    """See Runner."""

    has_address: ClassVar[bool] = False

    @classmethod
    def open(cls, workers: int, address: str = "") -> Self:
        """See Runner.open."""
        if workers != 1:
            raise ExportError(
                "--workers: the runner local has one; the runner processes has several"
            )
        return cls()

    @classmethod
    def max_workers(cls) -> int:
        """One."""
        return 1

    @classmethod
    def default_cores(cls, workers: int) -> int:
        """All cores of this machine."""
        return available_cores()

    def run(
        self,
        request: ExportRequest,
        job: ExportJob,
        numbers: Sequence[int],
        on_progress: OnProgress,
    ) -> None:
        """See Runner.run. Raises what ExportWorker raises as well."""

        async def work() -> None:
            async with ExportWorker(request, job) as worker:
                await worker.run(numbers, on_progress)

        with asyncio.Runner() as runner:
            runner.get_loop().set_exception_handler(_report)
            runner.run(work())


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Says what nobody else does, but not that a signal's SystemExit was raised in some task: it
    has ended the run."""
    if not isinstance(context.get("exception"), SystemExit):
        loop.default_exception_handler(context)
