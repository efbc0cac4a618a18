"""Shards compared with their receipts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

from serving.export.job import Job
from serving.export.plan import Plan
from serving.export.receipt import Receipt, problems_of, read_receipt, receipt_place
from serving.storage.location import Place
from serving.storage.parallel import mapped

T = TypeVar("T")


class Watch(Protocol):
    """Shows how far a pass is."""

    def __call__(self, items: Sequence[T], text: str) -> Iterable[T]:
        """The items, one after the other."""


def unwatched(items: Sequence[T], text: str) -> Iterable[T]:
    """Shows nothing."""
    return items


class Checked(NamedTuple):
    """A shard, and what is wrong with it."""

    number: int
    receipt: Receipt | None
    problems: list[str]
    """A line each; none when it is finished and whole."""


def checked(output: Place, job: Job, watch: Watch = unwatched) -> Iterator[Checked]:
    """All shards of an export in their order, every file read. Raises ExportError when the plan
    cannot be read."""
    plan = Plan.of(output, job)
    numbers = range(plan.shards)
    found = mapped(partial(checked_shard, output, plan, job.digest), numbers)
    for _ in watch(numbers, "checking"):
        yield next(found)


def checked_shard(output: Place, plan: Plan, job: str, number: int) -> Checked:
    """One shard under a job's digest. Raises ExportError when the plan cannot be read."""
    receipt = read_receipt(output, number)
    if receipt is None:
        name = receipt_place(output, number).name
        return Checked(number, None, [f"{name}: missing; the shard is not finished"])
    return Checked(number, receipt, list(problems_of(output, job, plan.shard(number), receipt)))
