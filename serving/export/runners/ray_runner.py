"""Workers on a Ray cluster, as actors of one Ray Data pipeline over the shards' numbers."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from serving.export.job import ExportError, Job
from serving.export.progress import Step
from serving.export.request import Task
from serving.export.worker import AHEAD, ERRORS, Exporter

SHARDS = 2 * AHEAD
"""That an actor takes at once."""
CONNECT_S = 5.0
_ERROR = "error: "


def run(
    task: Task,
    job: Job,
    numbers: Sequence[int],
    on_step: Callable[[Step], None],
    *,
    workers: int,
    address: str = "",
) -> None:
    """Makes the shards on the cluster at `address`, or on a Ray of this machine that is started for
    it. What an actor or a node that dies had in work is given to another.

    Raises ExportError with what a worker says.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it tells its makers otherwise
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # an error a start, of no consequence
    import ray
    from ray.exceptions import RayError

    _answers(address)
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(
                address=address or "local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ExportError(f"address: {address}: {error}") from None
    try:
        for told in _told(task, job, numbers, workers):
            if told.startswith(_ERROR):
                raise ExportError(told.removeprefix(_ERROR))
            on_step(Step.from_json(told))
    except RayError as error:
        raise ExportError(f"ray: {str(error).splitlines()[0]}; what is finished stays") from None
    finally:
        if ours:
            ray.shutdown()


def _answers(address: str) -> None:
    """Raises ExportError when nobody listens at HOST:PORT: Ray itself tries for many minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise ExportError(f"address: {address}: {error}") from None


def _told(task: Task, job: Job, numbers: Sequence[int], workers: int) -> Iterator[str]:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # ours is the one
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    shards = ray.data.from_items(list(numbers), override_num_blocks=-(-len(numbers) // SHARDS))
    done = shards.map_batches(
        _Actor,
        fn_constructor_args=(task, job),
        batch_size=SHARDS,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=task.cores,
        num_gpus=1 if task.engine.device == "cuda" else 0,
    )
    for row in done.iter_rows():
        yield row["told"]


class _Actor:
    """A worker for as long as its actor lives. What it raises it tells as data: Ray would begin an
    actor that fails again and again."""

    def __init__(self, task: Task, job: Job) -> None:
        self._task, self._job = task, job
        self._runner = asyncio.Runner()
        self._exporter: Exporter | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        told: list[str] = []
        numbers = [int(number) for number in batch["item"]]
        try:
            self._runner.run(self._make(numbers, lambda step: told.append(step.to_json())))
        except ERRORS as error:
            told.append(f"{_ERROR}{error}")
        return {"told": told}

    async def _make(self, numbers: Sequence[int], on_step: Callable[[Step], None]) -> None:
        if self._exporter is None:
            self._exporter = await Exporter(self._task, self._job).__aenter__()
        await self._exporter.run(numbers, on_step)
