"""An export compared with its receipts."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

from bundle.atomic import is_draft
from serving.export.formats import FORMATS
from serving.export.job import JOB, ExportError, ExportJob
from serving.export.plan import ExportPlan
from serving.export.receipt import (
    DATA,
    DONE,
    QUARANTINE,
    Receipt,
    find_file_problems,
    read_receipt,
    receipt_file,
)
from serving.storage.location import Location
from serving.storage.parallel import map_in_threads

T = TypeVar("T")


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
    output: Location, job: ExportJob, track: TrackProgress = no_progress
) -> Iterator[ShardCheck]:
    """Checks all shards of an export in their order, and reads every file. Raises ExportError when
    the plan cannot be read."""
    plan = ExportPlan.open(output, job)
    numbers = range(plan.shards)
    checks = map_in_threads(partial(check_shard, output, plan, job.digest), numbers)
    for _ in track(numbers, "checking"):
        yield next(checks)


def check_shard(output: Location, plan: ExportPlan, job: str, number: int) -> ShardCheck:
    """Checks one shard. `job` is the job's digest. Raises ExportError when the plan cannot be
    read."""
    receipt = read_receipt(output, number)
    if receipt is None:
        name = receipt_file(output, number).name
        return ShardCheck(number, None, [f"{name}: missing; the shard is not finished"])
    problems = find_file_problems(output, job, plan.shard(number), receipt)
    return ShardCheck(number, receipt, list(problems))


def find_problems(output: Location, track: TrackProgress = no_progress) -> Iterator[str]:
    """One line for everything that is wrong with an export's folder; none when it is whole. Raises
    ExportError for a folder that is no export."""
    job = ExportJob.load(output)
    if job is None:
        raise ExportError(f"not an export: no {JOB}")
    rows = quarantined = 0
    expected = {f"{DATA}/{name}" for name in FORMATS.load(job.outputs.format)().extra}
    for shard in check_shards(output, job, track):
        yield from shard.problems
        if shard.receipt is not None:
            expected.update(shard.receipt.files)
            rows, quarantined = rows + shard.receipt.rows, quarantined + shard.receipt.quarantined
    for folder in (DATA, QUARANTINE):
        for path, _ in output.at(folder).walk():
            if f"{folder}/{path}" not in expected and not is_draft(posixpath.basename(path)):
                yield f"{folder}/{path}: no receipt knows it"
    if rows + quarantined != job.entries:
        yield f"{rows} rows and {quarantined} in quarantine are not {job.entries} entries"
    if not output.at(DONE).exists():
        yield f"{DONE}: missing; the export is not finished"
