"""The finished shards of an export: those whose files are as their receipts say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from serving.export.done import DONE
from serving.export.job import JOB, ExportError, Job
from serving.export.place import Place
from serving.export.plan import Plan
from serving.export.receipt import DATA, QUARANTINE, Receipt, finished, read_receipt

BATCH = 8192
"""Rows in memory at a time."""

T = TypeVar("T")


class Watch(Protocol):
    """Shows how far a pass is."""

    def __call__(self, items: Sequence[T], text: str) -> Iterable[T]:
        """The items, one after the other."""


def unwatched(items: Sequence[T], text: str) -> Iterable[T]:
    """Shows nothing."""
    return items


@dataclass(frozen=True, kw_only=True)
class Shards:
    """What counts of an export, finished or not."""

    output: Place
    job: Job
    planned: int
    """Shards that the whole export has."""
    receipts: list[Receipt]
    """Of the finished ones."""
    altered: list[int]
    """Numbers of those with a receipt that their files, or the job, do not match."""
    done: bool
    """The export says that it is finished."""
    changed: str
    """When: to the minute, UTC. Of an export that is not finished, when it was begun."""

    @classmethod
    def open(cls, location: str, watch: Watch = unwatched) -> Shards:
        """The export in a folder, every file compared with its receipt. Raises ExportError for
        what is none or is not Parquet, or PlaceError."""
        output = Place.of(location)
        job = Job.load(output)
        if job is None:
            raise ExportError(f"{location}: not an export: no {JOB}")
        if job.outputs.format != "parquet":
            raise ExportError(f"{location}: format {job.outputs.format}; only parquet is read here")
        plan = Plan.of(output, job)
        receipts, altered = [], []
        for number in watch(range(plan.shards), "checking"):
            if read_receipt(output, number) is None:
                continue
            receipt = finished(output, job.digest, plan.shard(number))
            if receipt is None:
                altered.append(number)
            else:
                receipts.append(receipt)
        done = output.at(DONE)
        last = done if done.exists() else output.at(JOB)
        return cls(
            output=output,
            job=job,
            planned=plan.shards,
            receipts=receipts,
            altered=altered,
            done=done.exists(),
            changed=f"{output.fs.modified(last.path):%Y-%m-%d %H:%M} UTC",
        )

    @property
    def whole(self) -> bool:
        """Nothing is missing."""
        return self.done and len(self.receipts) == self.planned

    @property
    def rows(self) -> int:
        """Of the finished shards."""
        return sum(receipt.rows for receipt in self.receipts)

    @property
    def quarantined(self) -> int:
        """Entries without a row."""
        return sum(receipt.quarantined for receipt in self.receipts)

    @property
    def size(self) -> int:
        """Bytes of their files."""
        return sum(info.bytes for receipt in self.receipts for info in receipt.files.values())

    def batches(self, receipt: Receipt, columns: list[str], rows: int = BATCH) -> Iterator[Any]:
        """A shard's rows as pyarrow.RecordBatch of at most so many, in the export's order."""
        return self._read(receipt, DATA, columns, rows)

    def quarantine(self, receipt: Receipt, columns: list[str]) -> Iterator[Any]:
        """The same of its entries without a row."""
        return self._read(receipt, QUARANTINE, columns, BATCH)

    def _read(self, receipt: Receipt, folder: str, columns: list[str], rows: int) -> Iterator[Any]:
        import pyarrow.parquet as parquet

        for name in receipt.files:
            if name.startswith(f"{folder}/"):
                place = self.output.at(name)
                with place.fs.open(place.path, "rb") as stream:
                    yield from parquet.ParquetFile(stream).iter_batches(rows, columns=columns)
