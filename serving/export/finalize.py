"""The end of an export: totals that add up, and what joins all shards into one whole."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import partial

from bundle.schema import SchemaError, from_dict
from bundle.store import Bundle
from serving.export.columns import build_tables
from serving.export.formats import FORMATS
from serving.export.formats.base import ExportFormat, ShardFiles
from serving.export.job import ExportError, ExportJob
from serving.export.plan import PLAN, ExportPlan, read_left_out
from serving.export.progress import RunProgress
from serving.export.receipt import (
    DATA,
    DONE,
    QUARANTINE,
    RECEIPTS,
    Receipt,
    data_files,
    read_receipt,
)
from serving.storage.location import Location
from serving.storage.parallel import map_in_threads


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """The run that finished the export."""

    entries: int
    """Entries that this run made."""
    seconds: float
    entries_per_second: float
    busy: dict[str, float]
    """The share of the time that each stage was busy."""

    @classmethod
    def of(cls, progress: RunProgress) -> RunSummary:
        """Sums up the reports of all workers."""
        return cls(
            entries=progress.entries,
            seconds=round(progress.seconds, 3),
            entries_per_second=round(progress.rate, 1),
            busy={stage: round(share, 3) for stage, share in progress.busy.items()},
        )


@dataclass(frozen=True, kw_only=True)
class ExportSummary:
    """The totals of a finished export, as DONE.json keeps them."""

    job: str
    """Digest of the job."""
    model: str
    entries: int
    rows: int
    quarantined: int
    shards: int
    left_out: dict[str, int]
    """What the input holds and is no entry, by reason: the ending of a file's name, or words."""
    size: int
    """Bytes of all files."""
    receipts: str
    """sha256 over all receipts, which hold the sha256 of all files."""
    run: RunSummary | None
    """None when all that was left to do was to write this file again."""

    def to_json(self) -> bytes:
        """The contents of DONE.json."""
        return json.dumps(dataclasses.asdict(self), indent=1).encode()


def read_summary(output: Location) -> ExportSummary | None:
    """What DONE.json says; None when there is none that can be read."""
    try:
        return from_dict(ExportSummary, json.loads(output.at(DONE).read()), at="")
    except (OSError, ValueError, SchemaError):
        return None


def finalize(
    output: Location, job: ExportJob, bundle: Bundle, progress: RunProgress
) -> ExportSummary:
    """Adds up all receipts, lets the format join the shards, and writes DONE.json. Writes nothing
    where all of that is there already.

    Raises ExportError unless the receipts account for every entry.
    """
    export_format = FORMATS.load(job.outputs.format)()
    _remove_drafts(output, export_format)
    rows = quarantined = size = 0
    shards: list[ShardFiles] = []
    digest = hashlib.sha256()
    numbers = range(ExportPlan.open(output, job).shards)
    for receipt in map_in_threads(partial(_read_receipt, output), numbers):
        rows += receipt.rows
        quarantined += receipt.quarantined
        size += sum(info.bytes for info in receipt.files.values())
        digest.update(receipt.to_json())
        shards.append(data_files(receipt))
    if rows + quarantined != job.entries:
        raise ExportError(
            f"{rows} rows and {quarantined} in quarantine are not {job.entries} entries"
        )
    schema = build_tables([], [], job.outputs, bundle, job.modality).rows.schema
    export_format.finish(output.at(DATA), schema, shards)
    summary = ExportSummary(
        job=job.digest,
        model=job.model,
        entries=job.entries,
        rows=rows,
        quarantined=quarantined,
        shards=len(shards),
        left_out=dict(read_left_out(output)),
        size=size,
        receipts=digest.hexdigest(),
        run=RunSummary.of(progress) if progress.entries else None,
    )
    before = read_summary(output)
    if before is not None and dataclasses.replace(before, run=summary.run) == summary:
        return before
    output.at(DONE).write(summary.to_json())
    return summary


def _remove_drafts(output: Location, export_format: ExportFormat) -> None:
    """Removes drafts of killed workers, in the folders that an export writes in and no other."""
    output.remove_drafts()
    for name in (PLAN, RECEIPTS, QUARANTINE, *export_format.folders):
        output.at(name).remove_drafts()
    output.at(DATA).remove_drafts(below=True)


def _read_receipt(output: Location, number: int) -> Receipt:
    receipt = read_receipt(output, number)
    if receipt is None:
        raise ExportError(f"shard {number} has no receipt; run the export again")
    return receipt
