"""Several workers on this machine: one process for each, and on CUDA one device for each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, ClassVar, NamedTuple, Self

from serving.engines.base import available_cores
from serving.export.export_request import ExportRequest
from serving.export.export_worker import WORKER_ERRORS
from serving.export.job import ExportError, ExportJob
from serving.export.progress import OnProgress, WorkerProgress
from serving.export.runners.local_runner import LocalRunner

MAX_DEATHS = 3
"""The export gives up when one worker has died this often."""
END_S = 5.0
"""A worker that has not ended this long after it was asked to is killed."""


class ProcessRunner:
    """See Runner. Each worker has its own share of the shards; one that dies is started again."""

    has_address: ClassVar[bool] = False

    def __init__(self, workers: int) -> None:
        self._workers = workers

    @classmethod
    def open(cls, workers: int, address: str = "") -> Self:
        """See Runner.open."""
        return cls(workers)

    @classmethod
    def max_workers(cls) -> int:
        """One for each core of this machine."""
        return available_cores()

    @classmethod
    def default_cores(cls, workers: int) -> int:
        """An equal share of this machine's cores."""
        return max(1, available_cores() // workers)

    def run(
        self,
        request: ExportRequest,
        job: ExportJob,
        numbers: Sequence[int],
        on_progress: OnProgress,
    ) -> None:
        """See Runner.run."""
        shares = [numbers[rank :: self._workers] for rank in range(self._workers)]
        started = (_start(request, job, rank, share) for rank, share in enumerate(shares))
        alive = {worker.pipe: worker for worker in started}
        deaths = [0] * self._workers
        try:
            while alive:
                for pipe in wait(list(alive)):
                    worker = alive[pipe]  # type: ignore[index]  # wait gives back what it was given
                    try:
                        message = worker.pipe.recv()
                    except EOFError:  # the worker ended
                        del alive[worker.pipe]
                        worker.process.join()
                        if worker.process.exitcode != 0:
                            deaths[worker.rank] += 1
                            if deaths[worker.rank] == MAX_DEATHS:
                                raise _too_many_deaths(worker) from None
                            restarted = _start(request, job, worker.rank, shares[worker.rank])
                            alive[restarted.pipe] = restarted
                        continue
                    if not isinstance(message, WorkerProgress):
                        raise ExportError(message)
                    on_progress(message)
        finally:
            _end([worker.process for worker in alive.values()])


class _Worker(NamedTuple):
    """A process that runs one worker, and the end of the pipe on which it reports."""

    rank: int
    process: Any
    pipe: Connection


def _start(request: ExportRequest, job: ExportJob, rank: int, numbers: Sequence[int]) -> _Worker:
    # A forked process would share the parent's threads' locks; a spawned one starts clean.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(request, job, rank, numbers, sender))
    process.start()
    sender.close()  # the worker's copy is the last one, so that its end closes the pipe
    return _Worker(rank, process, receiver)


def _end(processes: Sequence[Any]) -> None:
    """Ends workers and waits for it. Their decoders end with them."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(END_S)
        if process.exitcode is None:
            process.kill()
            process.join()


def _end_with_parent() -> None:
    """Ends this process when the first one is gone, even if that was killed and told nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(
    request: ExportRequest, job: ExportJob, rank: int, numbers: Sequence[int], pipe: Connection
) -> None:
    """A worker's process. It sends every WorkerProgress, or the text of an error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if request.engine.device == "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = cuda_device(rank, os.environ)
    try:
        LocalRunner.open(1).run(request, job, numbers, pipe.send)
    except WORKER_ERRORS as error:
        pipe.send(str(error))
    except BrokenPipeError:  # the first process is gone
        pass


def cuda_device(rank: int, environment: Mapping[str, str]) -> str:
    """The CUDA device of a worker. Workers take the visible devices in turn, and start over when
    there are more workers than devices."""
    visible = [name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return visible[rank % len(visible)] if visible else str(rank)


def _too_many_deaths(worker: _Worker) -> ExportError:
    return ExportError(
        f"worker {worker.rank} died {MAX_DEATHS} times, the last time with exit "
        f"code {worker.process.exitcode}; what is finished stays"
    )
