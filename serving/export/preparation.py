"""The begin of an export and of its updates: jobs and plans, each written once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from bundle.atomic import is_draft
from serving.export.ended_rows import EndedRows, write_ended
from serving.export.export_request import DRAFTS, LOCKS, ExportRequest
from serving.export.finalize import read_summary
from serving.export.formats.parquet_format import parquet_batches
from serving.export.generations import Generations, update_folder
from serving.export.inputs.base import EmptyInputError, Input
from serving.export.job import JOB, DamagedJobError, ExportError, ExportJob
from serving.export.live_entries import InputChanges, LiveEntries
from serving.export.lost_job import rebuild_job
from serving.export.plan import (
    PLAN,
    InputListing,
    digest_files,
    input_entries,
    is_plan_file,
    nothing_found,
    remove_plan,
    write_plan,
)
from serving.export.receipt import RECEIPTS, DamagedReceiptError, quarantine_files, read_receipt
from serving.storage.left_out import LeftOut
from serving.storage.location import Location

BEGIN = f"{LOCKS}/begin"
"""Locked by the process that writes a job and its plan."""


class Prepared(NamedTuple):
    """An export that is ready to be made."""

    generations: Generations
    is_new: bool
    """Whether its plan is what the input holds now."""


def prepare(request: ExportRequest) -> Prepared:
    """A new export, whose job and plan are written, or the one that the output holds, if its
    settings are the same.

    Raises ExportError when the folder holds another export or anything else, InputError for an
    input that cannot be listed, EmptyInputError for one without entries, LocationError,
    BundleError, PluginError or EngineUnavailableError.
    """
    described, output = request.describe(), request.open_output()
    request.refuse_inside()
    generations, is_new = _load(described, output), False
    if generations is None:
        _refuse_foreign(output, output.names())
        with output.at(BEGIN).lock():
            generations = _load(described, output)
            if generations is None:
                generations, is_new = _begin(request, described, output), True
    generations.job.refuse_other(described)
    return Prepared(generations, is_new)


def prepare_update(
    request: ExportRequest, generations: Generations, *, retry: bool = False
) -> Generations | None:
    """The generations with one more, of what is new, changed or gone since the last one; None when
    nothing is. With `retry`, entries in quarantine count as changed. All shards must be finished.

    Raises what `prepare` raises.
    """
    output, number = generations.output, generations.number + 1
    source, before = request.open_input(), generations.job
    with output.at(BEGIN).lock():
        begun = Generations.load(output)
        if begun is not None and begun.number >= number:  # by another process
            return begun
        if not retry and _has_same_files(request, generations):
            return None
        folder = update_folder(output, number)
        remove_plan(folder)
        ended = EndedRows.read(generations)
        live = LiveEntries(generations, ended)
        if retry:
            live.expire(_quarantined(generations, ended))
        left_out, rows = LeftOut(), before.outputs.rows
        entries = input_entries(source, before.prefix, left_out)
        changed = live.changed(entries, rows)
        plan = write_plan(changed, folder, rows)
        if not live.seen and not request.allow_empty:
            raise EmptyInputError(nothing_found(left_out))
        if not live.changes:
            remove_plan(folder)
            return None
        _listing(source, live.seen, left_out).save(folder)
        job = dataclasses.replace(
            before,
            entries=plan.entries,
            plan=plan.digest,
            generation=number,
            first_shard=generations.shards,
            before=before.digest,
            ended=write_ended(output, number, live.ended(number)),
        )
        _save(job, folder)
    return Generations.load(output, number)


def find_changes(request: ExportRequest, generations: Generations) -> InputChanges:
    """How the input differs now from the last plan."""
    if _has_same_files(request, generations):
        return InputChanges()
    live = LiveEntries(generations, EndedRows.read(generations))
    entries = input_entries(request.open_input(), generations.job.prefix, LeftOut())
    for _ in live.changed(entries, generations.job.outputs.rows):
        pass
    return live.changes


def _load(described: ExportJob, output: Location) -> Generations | None:
    """The generations of a folder; a job that is damaged or gone is written again if what it made
    tells that it was this one."""
    try:
        generations = Generations.load(output)
        last = -1 if generations is None else generations.number
        summary = read_summary(output)
        is_lost = last < (-1 if summary is None else summary.generation)
        if last < 0 and {PLAN, RECEIPTS} <= set(output.names()):
            is_lost = True
        if not is_lost:
            return generations
    except DamagedJobError:
        pass
    rebuild_job(described, output)
    return _load(described, output)


def _begin(request: ExportRequest, described: ExportJob, output: Location) -> Generations:
    source, left_out = request.open_input(), LeftOut()
    remove_plan(output)
    entries = input_entries(source, request.prefix, left_out)
    plan = write_plan(entries, output, request.outputs.rows)
    if not plan.entries and not request.allow_empty:
        raise EmptyInputError(nothing_found(left_out))
    _listing(source, plan.entries, left_out).save(output)
    _save(dataclasses.replace(described, entries=plan.entries, plan=plan.digest), output)
    generations = Generations.load(output)
    assert generations is not None
    return generations


def _save(job: ExportJob, folder: Location) -> None:
    """Writes a job, unless another process has just begun the same; raises ExportError when it has
    begun another one."""
    if not folder.at(JOB).write_new(job.to_json()) and ExportJob.load(folder) != job:
        raise ExportError(
            "another process has just begun an export of other settings or entries here. "
            "Choose another output"
        )


def _has_same_files(request: ExportRequest, generations: Generations) -> bool:
    """Whether the files of an input whose files hold many entries are those of the last plan."""
    files, listing = digest_files(request.open_input()), InputListing.load(generations.folder)
    return listing is not None and bool(files) and files == listing.files


def _listing(source: Input, entries: int, left_out: LeftOut) -> InputListing:
    return InputListing(files=digest_files(source), entries=entries, left_out=dict(left_out))


def _quarantined(generations: Generations, ended: EndedRows) -> list[str]:
    """Ids of all live entries in quarantine."""
    ids: list[str] = []
    for number in range(generations.shards):
        try:
            receipt = read_receipt(generations.output, number)
        except DamagedReceiptError:
            continue
        for path in quarantine_files(receipt) if receipt else ():
            for batch in parquet_batches(generations.output.at(path), ["id"], 8192):
                ids += ended.live(number, batch)["id"].to_pylist()
    return ids


def _refuse_foreign(output: Location, names: Sequence[str]) -> None:
    """Raises ExportError when a folder without a job holds anything else than what an export leaves
    that was killed before it wrote its job."""
    own = {
        PLAN: is_plan_file,
        LOCKS: lambda name: name == "begin",
        DRAFTS: is_draft,
    }
    foreign = [name for name in names if name not in own]
    for folder, is_own in own.items():
        if folder in names:
            inside = output.at(folder).names()
            foreign += [f"{folder}/{name}" for name in inside if not is_own(name)]
    if foreign:
        raise ExportError(
            f"{output.path}: not empty and not an export: it holds {foreign[0]!r}. "
            "Choose a new or an empty folder"
        )
