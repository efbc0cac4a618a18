"""The contract of a runner: it gives the numbers of shards to workers and passes on what they say.

A worker is one `ExportWorker` (serving/export/export_worker.py). Workers share nothing but the
input, the output and the bundle, which must be in the same place for all of them; the bytes of a
shard depend on the job alone. So a runner may start a worker again, and may give the same shard to
two workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol, Self

from serving.export.export_request import ExportRequest
from serving.export.job import ExportJob
from serving.export.progress import OnProgress


class Runner(Protocol):
    """Workers on one machine or many."""

    has_address: ClassVar[bool]
    """Whether it runs on a cluster that a user may name by its address."""

    @classmethod
    def open(cls, workers: int, address: str = "") -> Self:
        """A runner of that many workers; `address` is empty unless the user named a cluster, and
        always where `has_address` is false. Raises ExportError for a number it cannot have."""

    @classmethod
    def max_workers(cls) -> int:
        """How many workers are of use here, for any number of shards."""

    @classmethod
    def default_cores(cls, workers: int) -> int:
        """Cores of one worker when the user names none."""

    def run(
        self,
        request: ExportRequest,
        job: ExportJob,
        numbers: Sequence[int],
        on_progress: OnProgress,
    ) -> None:
        """Makes the shards with these numbers, and returns when all are finished.

        Raises ExportError with what a worker says when it cannot go on; finished shards stay.
        """
