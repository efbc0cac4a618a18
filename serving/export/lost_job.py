"""A job that was damaged or removed, written again."""

from __future__ import annotations

import dataclasses
import hashlib

from serving.export.ended_rows import ended_name
from serving.export.finalize import read_summary
from serving.export.generations import UPDATES, Generations, update_folder
from serving.export.job import JOB, ExportError, ExportJob
from serving.export.plan import PLAN, ExportPlan, sum_up_plan
from serving.export.receipt import DamagedReceiptError, read_receipt
from serving.storage.location import Location


def rebuild_job(described: ExportJob, output: Location) -> None:
    """Writes the first job that cannot be read, if the receipts or DONE.json tell that it was of
    these settings and of the plan that is there. Raises ExportError otherwise."""
    before = _whole_generations(output)
    number = 0 if before is None else before.number + 1
    folder = update_folder(output, number) if number else output
    plan = sum_up_plan(folder)
    ended = output.at(ended_name(number))
    job = dataclasses.replace(
        described,
        entries=plan.entries,
        plan=plan.digest,
        generation=number,
        first_shard=before.shards if before else 0,
        before=before.job.digest if before else "",
        ended=hashlib.sha256(ended.read()).hexdigest() if number and ended.exists() else "",
    )
    if not _is_proven(job, output, folder):
        name = f"{UPDATES}/{folder.name}/{JOB}" if number else JOB
        raise ExportError(
            f"{name}: missing or damaged, and what is there was not made from this plan with these "
            "settings. Choose another output, or give what it was begun with"
        )
    folder.at(JOB).write(job.to_json())


def _whole_generations(output: Location) -> Generations | None:
    """The generations before the job that cannot be read."""
    found: Generations | None = None
    last = 0
    try:
        while (generations := Generations.load(output, last)) is not None:
            if generations.number < last:
                break
            found, last = generations, last + 1
    except ExportError:
        pass
    return found


def _is_proven(job: ExportJob, output: Location, folder: Location) -> bool:
    summary = read_summary(output)
    if summary is not None and summary.job == job.digest:
        return True
    plan = ExportPlan(folder=folder.at(PLAN), job=job)
    for number in plan.numbers:
        try:
            receipt = read_receipt(output, number)
        except DamagedReceiptError:
            continue
        if receipt is not None:
            return receipt.content == plan.shard(number).content
    return False
