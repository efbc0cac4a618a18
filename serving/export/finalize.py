"""The end of an export: totals that add up, and what joins all shards into one whole."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from bundle.schema import SchemaError, from_dict
from bundle.store import Bundle
from serving.export.columns import build_tables
from serving.export.ended_rows import EndedRows
from serving.export.export_request import DRAFTS
from serving.export.formats import FORMATS
from serving.export.formats.base import ExportFormat, ShardFiles
from serving.export.formats.parquet_format import parquet_batches
from serving.export.generations import Generations
from serving.export.job import ExportError
from serving.export.plan import InputListing
from serving.export.progress import RunProgress
from serving.export.receipt import (
    DATA,
    DamagedReceiptError,
    Receipt,
    data_files,
    quarantine_files,
    read_receipt,
)
from serving.storage.location import Location
from serving.storage.parallel import map_in_threads

DONE = "DONE.json"


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """The run that finished the export, or its last update."""

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
    """Digest of the last job."""
    model: str
    generation: int
    """The last generation that is finished."""
    entries: int
    """Live entries: what the input held when the last plan was made."""
    rows: int
    """Live rows."""
    quarantined: int
    """Live entries without a row."""
    ended: int
    """Rows and quarantined entries that are in the files and that updates ended."""
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


class Totals(NamedTuple):
    """What the receipts of an export add up to; see ExportSummary."""

    entries: int
    rows: int
    quarantined: int
    ended: int
    shards: int
    size: int


def read_summary(output: Location) -> ExportSummary | None:
    """What DONE.json says; None when there is none that can be read."""
    try:
        return from_dict(ExportSummary, json.loads(output.at(DONE).read()), at="")
    except (OSError, ValueError, SchemaError):
        return None


def finalize(generations: Generations, bundle: Bundle, progress: RunProgress) -> ExportSummary:
    """Adds up all receipts, lets the format join the shards, and writes DONE.json. Writes nothing
    where all of that is there already.

    Raises ExportError unless the receipts account for every entry.
    """
    output, job = generations.output, generations.job
    numbers = range(generations.shards)
    receipts = list(map_in_threads(partial(_read_receipt, output), numbers))
    ended = EndedRows.read(generations)
    totals = sum_up(generations, receipts, ended)
    if totals.rows + totals.quarantined != totals.entries:
        raise ExportError(
            f"{totals.rows} rows and {totals.quarantined} in quarantine are not "
            f"{totals.entries} entries"
        )
    schema = build_tables([], [], job.outputs, bundle, job.modality).rows.schema
    export_format = FORMATS.load(job.outputs.format)()
    shards = format_files(output, export_format, receipts, ended)
    export_format.finish(output.at(DATA), schema, shards)
    before = read_summary(output)
    summary = ExportSummary(
        job=job.digest,
        model=job.model,
        generation=generations.number,
        left_out=_left_out(generations, before),
        receipts=receipts_digest(receipts),
        run=RunSummary.of(progress) if progress.entries else None,
        **totals._asdict(),
    )
    output.at(DRAFTS).remove_drafts()
    if before is not None:
        if dataclasses.replace(before, run=summary.run) == summary:
            return before
        if before.generation > summary.generation:  # another process has begun and ended an update
            return summary
    output.at(DONE).write(summary.to_json())
    return summary


def _left_out(generations: Generations, before: ExportSummary | None) -> dict[str, int]:
    """What the input held besides. Listings that were damaged are written again: the last one from
    DONE.json, those before without it."""
    left_out: dict[str, int] = {}
    for plan in generations.plans:
        folder, is_last = plan.folder.parent, plan is generations.plans[-1]
        listing = InputListing.load(folder)
        if listing is None:
            left_out = before.left_out if before and is_last else {}
            listing = InputListing(files="", entries=0, left_out=left_out)
            listing.save(folder)
        left_out = listing.left_out
    return left_out


def sum_up(generations: Generations, receipts: Sequence[Receipt], ended: EndedRows) -> Totals:
    """Adds up the receipts of all shards, without what was ended."""
    rows = quarantined = 0
    for receipt in receipts:
        live = live_counts(generations.output, receipt, ended)
        rows, quarantined = rows + live.rows, quarantined + live.quarantined
    planned = sum(plan.job.entries for plan in generations.plans)
    return Totals(
        entries=planned - ended.table.num_rows,
        rows=rows,
        quarantined=quarantined,
        ended=ended.table.num_rows,
        shards=len(receipts),
        size=sum(info.bytes for receipt in receipts for info in receipt.files.values()),
    )


class LiveCounts(NamedTuple):
    """What of a shard was not ended."""

    rows: int
    quarantined: int


def live_counts(output: Location, receipt: Receipt, ended: EndedRows) -> LiveCounts:
    """Counts what of a shard was not ended. Reads its quarantine if something was."""
    count = ended.count(receipt.shard)
    if not count:
        return LiveCounts(receipt.rows, receipt.quarantined)
    quarantined = sum(
        ended.live(receipt.shard, batch).num_rows
        for path in quarantine_files(receipt)
        for batch in parquet_batches(output.at(path), ["id"], 8192)
    )
    return LiveCounts(receipt.entries - count - quarantined, quarantined)


def format_files(
    output: Location,
    export_format: ExportFormat,
    receipts: Sequence[Receipt],
    ended: EndedRows,
) -> list[ShardFiles]:
    """What a format joins: the files of all shards, and for one that marks them the rows that were
    ended."""
    shards: list[ShardFiles] = []
    for receipt in receipts:
        files, numbers = data_files(receipt), list[int]()
        if export_format.marks_ended and ended.count(receipt.shard):
            batches = export_format.read(output.at(DATA), list(files.sizes), ["id"], 8192)
            ids = [id for batch in batches for id in batch["id"].to_pylist()]
            dead = set(ended.by_shard[receipt.shard].to_pylist())
            numbers = [number for number, id in enumerate(ids) if id in dead]
        shards.append(dataclasses.replace(files, ended=tuple(numbers)))
    return shards


def receipts_digest(receipts: Iterable[Receipt]) -> str:
    """sha256 over receipts."""
    digest = hashlib.sha256()
    for receipt in receipts:
        digest.update(receipt.to_json())
    return digest.hexdigest()


def _read_receipt(output: Location, number: int) -> Receipt:
    try:
        receipt = read_receipt(output, number)
    except DamagedReceiptError:
        receipt = None
    if receipt is None:
        raise ExportError(f"shard {number} has no receipt; run the export again")
    return receipt
