"""The finished shards of an export: those whose files are as their receipts say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from serving.export.formats import FORMATS
from serving.export.formats.base import ExportFormat
from serving.export.formats.parquet_format import parquet_batches
from serving.export.job import JOB, ExportError, ExportJob
from serving.export.receipt import DATA, DONE, QUARANTINE, Receipt, data_files
from serving.export.verify_export import TrackProgress, check_shards, no_progress
from serving.storage.location import Location

BATCH_ROWS = 8192
"""Rows in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class ExportReader:
    """An export, finished or not, and which of its shards count."""

    output: Location
    job: ExportJob
    format: ExportFormat
    planned: int
    """Shards of the whole export."""
    receipts: list[Receipt]
    """The receipts of the finished shards, in the export's order."""
    altered: list[int]
    """Numbers of the shards with a receipt that their files, or the job, do not match."""
    is_done: bool
    """Whether the export says that it is finished."""
    changed: str
    """When it was finished, or begun if it is not finished: to the minute, UTC."""

    @classmethod
    def open(cls, location: str, track: TrackProgress = no_progress) -> ExportReader:
        """The export in a folder. Every file is compared with its receipt. Raises ExportError,
        LocationError or PluginError."""
        output = Location.parse(location)
        job = ExportJob.load(output)
        if job is None:
            raise ExportError(f"{location}: not an export: no {JOB}")
        if not job.outputs.sparse:
            raise ExportError(f"{location}: exported with --no-sparse: it holds no codes")
        receipts, altered, planned = [], [], 0
        for shard in check_shards(output, job, track):
            planned += 1
            if shard.receipt is None:
                continue
            if shard.problems:
                altered.append(shard.number)
            else:
                receipts.append(shard.receipt)
        done = output.at(DONE)
        is_done = done.exists()
        dated = done if is_done else output.at(JOB)
        return cls(
            output=output,
            job=job,
            format=FORMATS.load(job.outputs.format)(),
            planned=planned,
            receipts=receipts,
            altered=altered,
            is_done=is_done,
            changed=f"{dated.modified():%Y-%m-%d %H:%M} UTC",
        )

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return self.is_done and len(self.receipts) == self.planned

    @property
    def rows(self) -> int:
        """Rows of the finished shards."""
        return sum(receipt.rows for receipt in self.receipts)

    @property
    def quarantined(self) -> int:
        """Entries of the finished shards that have no row."""
        return sum(receipt.quarantined for receipt in self.receipts)

    @property
    def size(self) -> int:
        """Bytes of the files of the finished shards."""
        return sum(info.bytes for receipt in self.receipts for info in receipt.files.values())

    def batches(
        self, receipt: Receipt, columns: list[str], rows: int | None = None
    ) -> Iterator[Any]:
        """Columns of a shard as pyarrow.RecordBatch of at most `rows` rows (BATCH_ROWS if None), in
        the export's order."""
        names = list(data_files(receipt).sizes)
        return self.format.read(self.output.at(DATA), names, columns, rows or BATCH_ROWS)

    def quarantine(self, receipt: Receipt, columns: list[str]) -> Iterator[Any]:
        """Columns of a shard's quarantined entries as pyarrow.RecordBatch."""
        for path in receipt.files:
            if path.startswith(f"{QUARANTINE}/"):
                yield from parquet_batches(self.output.at(path), columns, BATCH_ROWS)
