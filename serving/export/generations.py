"""An export and its updates: one plan after the other over one folder of shards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from serving.export.job import ExportError, ExportJob
from serving.export.plan import PLAN, ExportPlan, Shard
from serving.storage.location import Location

UPDATES = "updates"


@dataclass(frozen=True, kw_only=True)
class Generations:
    """Generation 0 is the first export of a collection, with its job and plan in the export's
    folder. Each update is one more, with its own in `updates/NUMBER`. Shards, receipts and data of
    all of them are in the same folders."""

    output: Location
    plans: list[ExportPlan]
    """One for each generation."""

    @classmethod
    def load(cls, output: Location, last: int | None = None) -> Generations | None:
        """The generations of an export's folder, up to `last`; None when it holds no export. Raises
        ExportError for a job that cannot be read or that does not follow the one before."""
        job = ExportJob.load(output)
        if job is None:
            return None
        plans = [ExportPlan(folder=output.at(PLAN), job=job)]
        updates = set(output.at(UPDATES).names())
        while last is None or len(plans) <= last:
            number = len(plans)
            folder = update_folder(output, number)
            update = ExportJob.load(folder) if folder.name in updates else None
            if update is None:
                break
            before = plans[-1].job
            if (update.generation, update.before) != (number, before.digest):
                raise ExportError(f"{UPDATES}/{folder.name}: does not follow what is before it")
            before.refuse_other(update)
            plans.append(ExportPlan(folder=folder.at(PLAN), job=update))
        return cls(output=output, plans=plans)

    @property
    def job(self) -> ExportJob:
        """The last job."""
        return self.plans[-1].job

    @property
    def number(self) -> int:
        """The last generation."""
        return len(self.plans) - 1

    @property
    def folder(self) -> Location:
        """The folder of the last job."""
        return self.plans[-1].folder.parent

    @property
    def shards(self) -> int:
        """Shards of all generations."""
        return self.plans[-1].numbers.stop

    def shard(self, number: int) -> Shard:
        """Reads the plan of one shard of any generation. Raises ExportError."""
        return self._plan_of(number).shard(number)

    def generation_of(self, number: int) -> int:
        """The generation that made a shard."""
        return self._plan_of(number).job.generation

    def first(self, count: int) -> Generations:
        """The first `count` generations."""
        return replace(self, plans=self.plans[:count])

    def __iter__(self) -> Iterator[Shard]:
        """All shards, in their order."""
        return map(self.shard, range(self.shards))

    def _plan_of(self, number: int) -> ExportPlan:
        return next(plan for plan in reversed(self.plans) if number in plan.numbers)


def update_folder(output: Location, number: int) -> Location:
    """The folder of the job and the plan of an update."""
    return output.at(f"{UPDATES}/{number:06d}")
