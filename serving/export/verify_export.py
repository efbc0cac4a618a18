"""An export compared with its jobs, plans and receipts, file by file and row by row."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import pyarrow

from serving.export.ended_rows import ENDED, EndedRows, ended_file_problem, ended_name
from serving.export.finalize import (
    DONE,
    ExportSummary,
    format_files,
    read_summary,
    receipts_digest,
    sum_up,
)
from serving.export.formats import FORMATS
from serving.export.formats.base import ExportFormat
from serving.export.formats.parquet_format import parquet_batches
from serving.export.generations import UPDATES, Generations
from serving.export.job import JOB, ExportError
from serving.export.plan import LISTING, PLAN, InputListing, is_plan_file, sum_up_plan
from serving.export.receipt import (
    DATA,
    QUARANTINE,
    RECEIPTS,
    DamagedReceiptError,
    Receipt,
    data_files,
    find_file_problems,
    quarantine_files,
    read_receipt,
    receipt_name,
    shard_stem,
)
from serving.storage.location import Location
from serving.storage.parallel import map_in_threads

T = TypeVar("T")

_OWN_NAME = re.compile(r"part-\d{6,}-[0-9a-f]{16}\b.*")
"""Names that an export gives to the files and groups of its shards."""
BATCH_ROWS = 8192


class TrackProgress(Protocol):
    """Shows how many items of a sequence are done."""

    def __call__(self, items: Sequence[T], text: str) -> Iterable[T]:
        """The items, one after the other. `text` says what is done with them."""


def no_progress(items: Sequence[T], text: str) -> Iterable[T]:
    """A TrackProgress that shows nothing."""
    return items


class ShardCheck(NamedTuple):
    """A shard, and what is wrong with it."""

    number: int
    receipt: Receipt | None
    problems: list[str]
    """One line for each problem; empty when the shard is finished and whole."""


def check_shards(
    generations: Generations, track: TrackProgress = no_progress, *, rows: bool = False
) -> Iterator[ShardCheck]:
    """Checks all shards of an export in their order, and reads every file; with `rows`, compares
    the ids in them with the plan too. Raises ExportError when a plan cannot be read."""
    numbers = range(generations.shards)
    checks = map_in_threads(partial(check_shard, generations, rows=rows), numbers)
    for _ in track(numbers, "checking"):
        yield next(checks)


def check_shard(generations: Generations, number: int, *, rows: bool = False) -> ShardCheck:
    """Checks one shard. Raises ExportError when its plan cannot be read."""
    output, name = generations.output, receipt_name(number)
    try:
        receipt = read_receipt(output, number)
    except DamagedReceiptError as error:
        return ShardCheck(number, None, [f"{name}: {error}"])
    if receipt is None:
        return ShardCheck(number, None, [f"{name}: missing; the shard is not finished"])
    shard = generations.shard(number)
    problems = list(find_file_problems(output, shard, receipt))
    if rows and not problems:
        export_format = FORMATS.load(generations.job.outputs.format)()
        expected = [entry.id for entry in shard.entries]
        problems += _row_problems(output, export_format, receipt, expected)
    return ShardCheck(number, receipt, problems)


def _row_problems(
    output: Location, export_format: ExportFormat, receipt: Receipt, expected: list[str]
) -> Iterator[str]:
    """Compares the ids of a shard's rows and quarantine with those of its plan."""
    names = list(data_files(receipt).sizes)
    try:
        batches = export_format.read(output.at(DATA), names, ["id"], BATCH_ROWS)
        rows = [id for batch in batches for id in batch["id"].to_pylist()]
        failed = [
            id
            for path in quarantine_files(receipt)
            for batch in parquet_batches(output.at(path), ["id"], BATCH_ROWS)
            for id in batch["id"].to_pylist()
        ]
    except (OSError, ValueError, KeyError, pyarrow.ArrowException):
        yield f"{receipt_name(receipt.shard)}: its files cannot be read"
        return
    if (len(rows), len(failed)) != (receipt.rows, receipt.quarantined):
        yield f"{receipt_name(receipt.shard)}: counts other rows than its files hold"
    elif sorted([*rows, *failed]) != sorted(expected):
        yield f"{receipt_name(receipt.shard)}: its files hold other entries than the plan"


def find_problems(output: Location, track: TrackProgress = no_progress) -> Iterator[str]:
    """One line for everything that is wrong with an export's folder; none when it is whole. Raises
    ExportError for a folder that is no export."""
    generations = Generations.load(output)
    if generations is None:
        raise ExportError(f"not an export: no {JOB}")
    yield from _plan_problems(generations)
    export_format = FORMATS.load(generations.job.outputs.format)()
    receipts: list[Receipt] = []
    for shard in check_shards(generations, track, rows=True):
        yield from shard.problems
        if shard.receipt is not None:
            receipts.append(shard.receipt)
    yield from _stray_files(generations, export_format, receipts)
    summary = read_summary(output)
    if summary is None:
        is_there = output.at(DONE).exists()
        yield f"{DONE}: {'damaged' if is_there else 'missing; the export is not finished'}"
    elif summary.generation > generations.number:
        yield f"{UPDATES}/{generations.number + 1:06d}/{JOB}: missing"
    elif summary.generation < generations.number:
        yield f"{DONE}: of generation {summary.generation}; the last update is not finished"
    elif len(receipts) == generations.shards:
        yield from _end_problems(generations, export_format, receipts, summary)


def _plan_problems(generations: Generations) -> Iterator[str]:
    for plan in generations.plans:
        job, folder = plan.job, plan.folder.path.removeprefix(f"{generations.output.path}/")
        if sum_up_plan(plan.folder.parent) != (job.entries, job.plan):
            yield f"{folder}: not the plan of its {JOB}; export to a new folder"
        if InputListing.load(plan.folder.parent) is None:
            yield f"{folder}/{LISTING}: missing or altered"
        if job.ended:
            problem = ended_file_problem(generations.output, job.generation, job.ended)
            if problem:
                yield f"{ended_name(job.generation)}: {problem}; export to a new folder"


def _stray_files(
    generations: Generations, export_format: ExportFormat, receipts: Sequence[Receipt]
) -> Iterator[str]:
    """Files in the export's folders that it does not know."""
    expected = {f"{DATA}/{name}" for name in export_format.extra}
    expected |= {path for receipt in receipts for path in receipt.files}
    expected |= {receipt_name(number) for number in range(generations.shards)}
    # Files of a shard whose receipt says nothing are its own by their names.
    unfinished = set(range(generations.shards)) - {receipt.shard for receipt in receipts}
    stems = {shard_stem(generations.shard(number)) for number in unfinished}
    for plan in generations.plans:
        expected.add(ended_name(plan.job.generation))
        if plan.job.generation:
            expected.add(f"{UPDATES}/{plan.folder.parent.name}/{JOB}")
    for folder in (DATA, QUARANTINE, RECEIPTS, ENDED, UPDATES, PLAN):
        for path, _ in generations.output.at(folder).walk():
            name, own = posixpath.basename(path), path.partition("/")[0]
            in_plan = folder == PLAN or f"/{PLAN}/" in path
            if f"{folder}/{path}" in expected or (in_plan and is_plan_file(name)):
                continue
            if own.partition(".")[0] in stems:
                continue
            if _OWN_NAME.fullmatch(own):
                yield f"{folder}/{path}: no receipt knows it; another export left it: remove it"
            else:
                yield f"{folder}/{path}: no receipt knows it; move it to another folder"


def _end_problems(
    generations: Generations,
    export_format: ExportFormat,
    receipts: Sequence[Receipt],
    summary: ExportSummary,
) -> Iterator[str]:
    """What is wrong with what is written when an export is finished."""
    output = generations.output
    ended = EndedRows.read(generations)
    totals = sum_up(generations, receipts, ended)
    for name, value in totals._asdict().items():
        if getattr(summary, name) != value:
            yield f"{DONE}: {name} is {getattr(summary, name)!r}, the receipts say {value!r}"
    if summary.job != generations.job.digest or summary.model != generations.job.model:
        yield f"{DONE}: of another job"
    if summary.receipts != receipts_digest(receipts):
        yield f"{DONE}: not of these receipts"
    shards = format_files(output, export_format, receipts, ended)
    yield from export_format.find_problems(output.at(DATA), shards)
