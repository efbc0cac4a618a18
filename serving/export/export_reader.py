"""The live rows of an export: those of finished shards that no update ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.export.ended_rows import EndedRows
from serving.export.finalize import DONE, LiveCounts, live_counts, read_summary
from serving.export.formats import FORMATS
from serving.export.formats.base import ExportFormat
from serving.export.formats.parquet_format import parquet_batches
from serving.export.generations import Generations
from serving.export.job import JOB, ExportError, ExportJob
from serving.export.receipt import DATA, Receipt, data_files, quarantine_files
from serving.export.verify_export import TrackProgress, check_shards, no_progress
from serving.storage.location import Location

BATCH_ROWS = 8192
"""Rows in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class ExportReader:
    """An export, finished or not, and which of its shards count. Of an export with an update that
    is not finished, it is what was there before."""

    output: Location
    generations: Generations
    ended: EndedRows
    format: ExportFormat
    receipts: list[Receipt]
    """The receipts of the finished shards, in the export's order."""
    altered: list[int]
    """Numbers of the shards with a receipt that their files, or the job, do not match."""
    is_done: bool
    """Whether the export says that it is finished."""
    is_updating: bool
    """Whether there is an update that is not finished."""
    changed: str
    """When it was finished, or begun if it is not finished: to the minute, UTC."""

    @classmethod
    def open(cls, location: str, track: TrackProgress = no_progress) -> ExportReader:
        """The export in a folder. Every file is compared with its receipt. Raises ExportError,
        LocationError or PluginError."""
        output = Location.parse(location)
        generations = Generations.load(output)
        if generations is None:
            raise ExportError(f"{location}: not an export: no {JOB}")
        outputs = generations.job.outputs
        if not (outputs.sparse or outputs.dense):
            raise ExportError(
                f"{location}: exported with --no-sparse: it holds neither codes nor dense vectors"
            )
        summary = read_summary(output)
        last = generations.number
        if summary is not None:
            if summary.generation > last:
                raise ExportError(
                    f"{location}: the job of an update is missing; exporting again mends it"
                )
            generations = generations.first(summary.generation + 1)
        receipts, altered = [], []
        for shard in check_shards(generations, track):
            if shard.receipt is None:
                continue
            if shard.problems:
                altered.append(shard.number)
            else:
                receipts.append(shard.receipt)
        dated = output.at(JOB if summary is None else DONE)
        return cls(
            output=output,
            generations=generations,
            ended=EndedRows.read(generations),
            format=FORMATS.load(generations.job.outputs.format)(),
            receipts=receipts,
            altered=altered,
            is_done=summary is not None,
            is_updating=summary is not None and generations.number < last,
            changed=f"{dated.modified():%Y-%m-%d %H:%M} UTC",
        )

    @property
    def job(self) -> ExportJob:
        """The job of the last generation that counts."""
        return self.generations.job

    @property
    def name(self) -> str:
        """What tells this export from all others, and stays when it is updated."""
        return self.generations.plans[0].job.digest

    @property
    def holds_codes(self) -> bool:
        """Whether rows hold codes. Else they hold dense vectors alone, as those of a dense model
        do."""
        return self.job.outputs.sparse

    @cached_property
    def dense_dim(self) -> int:
        """D, where dense vectors are all that rows hold; 0 for codes, and where no row was ever
        written that tells."""
        if self.holds_codes:
            return 0
        for receipt in self.receipts:
            names = list(data_files(receipt).sizes)
            for batch in self.format.read(self.output.at(DATA), names, ["dense"], BATCH_ROWS):
                return int(batch.schema.field("dense").type.list_size)
        return 0

    @property
    def planned(self) -> int:
        """Shards of the whole export."""
        return self.generations.shards

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return self.is_done and len(self.receipts) == self.planned

    @cached_property
    def _counts(self) -> dict[int, LiveCounts]:
        return {r.shard: live_counts(self.output, r, self.ended) for r in self.receipts}

    @property
    def entries(self) -> int:
        """Live entries of the whole export."""
        planned = sum(plan.job.entries for plan in self.generations.plans)
        return planned - int(self.ended.table.num_rows)

    @property
    def rows(self) -> int:
        """Live rows of the finished shards."""
        return sum(counts.rows for counts in self._counts.values())

    @property
    def quarantined(self) -> int:
        """Live entries of the finished shards that have no row."""
        return sum(counts.quarantined for counts in self._counts.values())

    @property
    def size(self) -> int:
        """Bytes of the files of the finished shards."""
        return sum(info.bytes for receipt in self.receipts for info in receipt.files.values())

    def rows_of(self, receipt: Receipt) -> int:
        """Live rows of a shard."""
        return self._counts[receipt.shard].rows

    def batches(
        self, receipt: Receipt, columns: list[str], rows: int | None = None
    ) -> Iterator[Any]:
        """Columns of a shard's live rows as pyarrow.RecordBatch of at most `rows` rows (BATCH_ROWS
        if None), in the export's order."""
        names = list(data_files(receipt).sizes)
        read = list(dict.fromkeys([*columns, "id"])) if self.ended.count(receipt.shard) else columns
        for batch in self.format.read(self.output.at(DATA), names, read, rows or BATCH_ROWS):
            if (live := self.ended.live(receipt.shard, batch)).num_rows:
                yield live.select(columns)

    def quarantine(self, receipt: Receipt, columns: list[str]) -> Iterator[Any]:
        """Columns of a shard's live quarantined entries as pyarrow.RecordBatch."""
        for path in quarantine_files(receipt):
            for batch in parquet_batches(self.output.at(path), [*{*columns, "id"}], BATCH_ROWS):
                yield self.ended.live(receipt.shard, batch).select(columns)


def dense_rows(column: Any) -> NDArray[np.float32]:
    """The column `dense` of a batch as an array (B, D)."""
    rows: NDArray[np.float32] = column.flatten().to_numpy()
    return rows.reshape(len(column), column.type.list_size)
