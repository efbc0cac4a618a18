"""The finished shards of an export: those whose files are as their receipts say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from serving.export.finalize import DONE
from serving.export.formats import FORMATS
from serving.export.formats.base import ExportFormat
from serving.export.formats.parquet_format import parquet_batches
from serving.export.job import JOB, ExportError, Job
from serving.export.receipt import DATA, QUARANTINE, Receipt, data_files
from serving.export.verify import Watch, checked, unwatched
from serving.storage.location import Place

BATCH = 8192
"""Rows in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class Shards:
    """What counts of an export, finished or not."""

    output: Place
    job: Job
    form: ExportFormat
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
        """The export in a folder, every file compared with its receipt. Raises ExportError or
        PlaceError."""
        output = Place.of(location)
        job = Job.load(output)
        if job is None:
            raise ExportError(f"{location}: not an export: no {JOB}")
        if not job.outputs.sparse:
            raise ExportError(f"{location}: exported with --no-sparse: it holds no codes")
        receipts, altered, planned = [], [], 0
        for shard in checked(output, job, watch):
            planned += 1
            if shard.receipt is None:
                continue
            if shard.problems:
                altered.append(shard.number)
            else:
                receipts.append(shard.receipt)
        done = output.at(DONE)
        last = done if done.exists() else output.at(JOB)
        return cls(
            output=output,
            job=job,
            form=FORMATS.load(job.outputs.format)(),
            planned=planned,
            receipts=receipts,
            altered=altered,
            done=done.exists(),
            changed=f"{last.changed():%Y-%m-%d %H:%M} UTC",
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
        names = list(data_files(receipt).sizes)
        return self.form.read(self.output.at(DATA), names, columns, rows)

    def quarantine(self, receipt: Receipt, columns: list[str]) -> Iterator[Any]:
        """The same of its entries without a row."""
        for name in receipt.files:
            if name.startswith(f"{QUARANTINE}/"):
                yield from parquet_batches(self.output.at(name), columns, BATCH)
