"""The end of an export: totals that reconcile, and a check of all that is there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from bundle.store import Bundle
from serving.export.formats.base import Part, format_of
from serving.export.job import ExportError, Job
from serving.export.place import DRAFT, Place
from serving.export.plan import Plan
from serving.export.receipt import (
    DATA,
    QUARANTINE,
    Receipt,
    content_of,
    part_of,
    problem_of,
    read_receipt,
    receipt_place,
)
from serving.export.step import Tally
from serving.export.table import tables_of, width_of

DONE = "DONE.json"
READERS, AT_ONCE = 16, 1024
"""Threads that read receipts, as an object store takes its time for each, and how many they are
given at once."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The run that finished the export."""

    entries: int
    """That it made."""
    seconds: float
    entries_per_second: float
    busy: Mapping[str, float]
    """Share of the time that each stage's workers were busy."""

    @classmethod
    def of(cls, tally: Tally) -> Run:
        """From all its steps."""
        return cls(
            entries=tally.made,
            seconds=round(tally.seconds, 3),
            entries_per_second=round(tally.rate, 1),
            busy={stage: round(share, 3) for stage, share in tally.busy.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Done:
    """What DONE.json says."""

    job: str
    """Digest of the job."""
    model: str
    entries: int
    rows: int
    quarantined: int
    shards: int
    size: int
    """Bytes of all files."""
    receipts: str
    """sha256 over all receipts, which hold the sha256 of all files."""
    run: Run

    def to_json(self) -> bytes:
        """As JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1).encode()


def finish(output: Place, job: Job, bundle: Bundle, run: Run) -> Done:
    """Adds up all receipts, makes one thing of all shards, and writes DONE.json.

    Raises ExportError unless the receipts account for every entry.
    """
    output.sweep()  # all is there: nobody writes any more
    rows = quarantined = size = 0
    parts: list[Part] = []
    total = hashlib.sha256()
    for receipt in _receipts(output, Plan.of(output, job)):
        rows += receipt.rows
        quarantined += receipt.quarantined
        size += sum(info.bytes for info in receipt.files.values())
        total.update(receipt.to_json())
        parts.append(part_of(receipt))
    if rows + quarantined != job.entries:
        raise ExportError(
            f"{rows} rows and {quarantined} in quarantine are not {job.entries} entries"
        )
    width = width_of(bundle, job.modality)
    schema = tables_of([], [], job.outputs, bundle.concepts, width).rows.schema
    format_of(job.outputs.format).finish(output.at(DATA), schema, parts)
    done = Done(
        job=job.digest,
        model=job.model,
        entries=job.entries,
        rows=rows,
        quarantined=quarantined,
        shards=len(parts),
        size=size,
        receipts=total.hexdigest(),
        run=run,
    )
    output.at(DONE).write(done.to_json())
    return done


def _receipts(output: Place, plan: Plan) -> Iterator[Receipt]:
    with ThreadPoolExecutor(READERS) as pool:
        for first in range(0, plan.shards, AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, plan.shards))
            receipts = pool.map(partial(read_receipt, output), numbers)
            for number, receipt in zip(numbers, receipts, strict=True):
                if receipt is None:
                    raise ExportError(f"shard {number} has no receipt; run the export again")
                yield receipt


def problems(output: Place) -> Iterator[str]:
    """All that is wrong with an export's folder, a line each; none when it is whole."""
    job = Job.load(output)
    if job is None:
        raise ExportError("not an export: no job.json")
    plan = Plan.of(output, job)
    known = {f"{DATA}/{name}" for name in format_of(job.outputs.format).extra}
    rows = quarantined = 0
    for number in range(plan.shards):
        receipt = read_receipt(output, number)
        if receipt is None:
            yield f"{receipt_place(output, number).name}: missing; the shard is not finished"
            continue
        if receipt.content != content_of(job.digest, plan.shard(number)):
            yield f"{receipt_place(output, number).name}: of another job or other entries"
            continue
        known.update(receipt.files)
        rows, quarantined = rows + receipt.rows, quarantined + receipt.quarantined
        for name, info in receipt.files.items():
            problem = problem_of(output, name, info)
            if problem:
                yield f"{name}: {problem}"
    for folder in (DATA, QUARANTINE):
        place = output.at(folder)
        if place.exists():
            for path, _ in place.walk():
                if f"{folder}/{path}" not in known and not path.endswith(DRAFT):
                    yield f"{folder}/{path}: no receipt knows it"
    if rows + quarantined != job.entries:
        yield f"{rows} rows and {quarantined} in quarantine are not {job.entries} entries"
    if not output.at(DONE).exists():
        yield f"{DONE}: missing; the export is not finished"
