"""The end of an export: totals that reconcile, and a check of all that is there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from bundle.atomic import is_draft
from bundle.store import Bundle
from serving.export.columns import tables_of
from serving.export.formats import FORMATS
from serving.export.formats.base import ExportFormat, ShardFiles
from serving.export.job import JOB, ExportError, Job
from serving.export.plan import PLAN, Plan
from serving.export.progress import Tally
from serving.export.receipt import DATA, QUARANTINE, RECEIPTS, Receipt, data_files, read_receipt
from serving.export.verify import Watch, checked, unwatched
from serving.storage.location import Place
from serving.storage.parallel import mapped

DONE = "DONE.json"


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
    form = FORMATS.load(job.outputs.format)()
    _sweep(output, form)
    rows = quarantined = size = 0
    shards: list[ShardFiles] = []
    total = hashlib.sha256()
    for receipt in mapped(partial(_receipt, output), range(Plan.of(output, job).shards)):
        rows += receipt.rows
        quarantined += receipt.quarantined
        size += sum(info.bytes for info in receipt.files.values())
        total.update(receipt.to_json())
        shards.append(data_files(receipt))
    if rows + quarantined != job.entries:
        raise ExportError(
            f"{rows} rows and {quarantined} in quarantine are not {job.entries} entries"
        )
    schema = tables_of([], [], job.outputs, bundle, job.modality).rows.schema
    form.finish(output.at(DATA), schema, shards)
    done = Done(
        job=job.digest,
        model=job.model,
        entries=job.entries,
        rows=rows,
        quarantined=quarantined,
        shards=len(shards),
        size=size,
        receipts=total.hexdigest(),
        run=run,
    )
    output.at(DONE).write(done.to_json())
    return done


def _sweep(output: Place, form: ExportFormat) -> None:
    """Removes drafts of killed workers, in the folders that an export writes in and no other."""
    output.sweep()
    for name in (PLAN, RECEIPTS, QUARANTINE, *form.folders):
        output.at(name).sweep()
    output.at(DATA).sweep(below=True)


def _receipt(output: Place, number: int) -> Receipt:
    receipt = read_receipt(output, number)
    if receipt is None:
        raise ExportError(f"shard {number} has no receipt; run the export again")
    return receipt


def problems(output: Place, watch: Watch = unwatched) -> Iterator[str]:
    """All that is wrong with an export's folder, a line each; none when it is whole."""
    job = Job.load(output)
    if job is None:
        raise ExportError(f"not an export: no {JOB}")
    rows = quarantined = 0
    known = {f"{DATA}/{name}" for name in FORMATS.load(job.outputs.format)().extra}
    for shard in checked(output, job, watch):
        yield from shard.problems
        if shard.receipt is not None:
            known.update(shard.receipt.files)
            rows, quarantined = rows + shard.receipt.rows, quarantined + shard.receipt.quarantined
    for folder in (DATA, QUARANTINE):
        for path, _ in output.at(folder).walk():
            if f"{folder}/{path}" not in known and not is_draft(posixpath.basename(path)):
                yield f"{folder}/{path}: no receipt knows it"
    if rows + quarantined != job.entries:
        yield f"{rows} rows and {quarantined} in quarantine are not {job.entries} entries"
    if not output.at(DONE).exists():
        yield f"{DONE}: missing; the export is not finished"
