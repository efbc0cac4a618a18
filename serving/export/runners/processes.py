"""Several workers of this machine, a process each, and on CUDA a device each."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from serving.export.job import ExportError, Job
from serving.export.progress import Step
from serving.export.request import Task
from serving.export.runners import local
from serving.export.worker import ERRORS

DEATHS = 3
"""Of one worker, after which the export gives up."""


def run(
    task: Task,
    job: Job,
    numbers: Sequence[int],
    on_step: Callable[[Step], None],
    *,
    workers: int,
) -> None:
    """Makes the shards, each worker its own share. One that dies is started again.

    Raises ExportError with what a worker says.
    """
    shares = [numbers[rank::workers] for rank in range(workers)]
    alive = {w.pipe: w for w in (_start(task, job, rank, s) for rank, s in enumerate(shares))}
    deaths = [0] * workers
    try:
        while alive:
            for pipe in wait(list(alive)):
                worker = alive[pipe]  # type: ignore[index]  # what was given comes back
                try:
                    told = worker.pipe.recv()
                except EOFError:
                    del alive[worker.pipe]
                    worker.process.join()
                    if worker.process.exitcode == 0:
                        continue
                    deaths[worker.rank] += 1
                    if deaths[worker.rank] == DEATHS:
                        raise ExportError(
                            f"worker {worker.rank} died {DEATHS} times, the last time with exit "
                            f"code {worker.process.exitcode}; what is finished stays"
                        ) from None
                    again = _start(task, job, worker.rank, shares[worker.rank])
                    alive[again.pipe] = again
                    continue
                if isinstance(told, Step):
                    on_step(told)
                else:
                    raise ExportError(told)
    finally:
        for worker in alive.values():
            worker.process.terminate()
            worker.process.join()


@dataclass(frozen=True, kw_only=True)
class _Worker:
    rank: int
    process: Any
    pipe: Connection


def _start(task: Task, job: Job, rank: int, numbers: Sequence[int]) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(task, job, rank, numbers, theirs))
    process.start()
    theirs.close()
    return _Worker(rank=rank, process=process, pipe=ours)


def _work(task: Task, job: Job, rank: int, numbers: Sequence[int], pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends the others
    if task.engine.device == "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = device_of(rank, os.environ)
    try:
        local.run(task, job, numbers, pipe.send)
    except ERRORS as error:
        pipe.send(str(error))
    except BrokenPipeError:  # the first process is gone
        pass


def device_of(rank: int, environment: Any) -> str:
    """The CUDA device of a worker: its own of those that may be seen, and then in turn again."""
    visible = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return visible[rank % len(visible)] if visible else str(rank)
