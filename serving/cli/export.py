"""`sparseclip export INPUT OUTPUT`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import click

from bundle.progress import line_when_stopped, show_progress
from serving.cli._export_options import with_request
from serving.cli._export_outcome import NothingExportedError, check_outcome, show_outcome
from serving.export.bounds import MAX_WORKERS
from serving.export.runners import RUNNERS, default_runner

if TYPE_CHECKING:
    from serving.export.export_request import ExportRequest
    from serving.export.finalize import ExportSummary
    from serving.export.generations import Generations
    from serving.export.progress import OnProgress, RunProgress, WorkerProgress
    from serving.export.runners.base import Runner


def _not_empty(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuses "", which would stand for the current folder."""
    if not value.strip():
        raise click.BadParameter("must not be empty")
    return value


@click.command()
@click.argument("source", metavar="INPUT", callback=_not_empty)
@click.argument("output", callback=_not_empty)
@click.option(
    "--update",
    is_flag=True,
    help="Take what is new or changed in INPUT since the last run, and mark what is gone.",
)
@click.option(
    "--retry-quarantine",
    is_flag=True,
    help="With --update: try the entries in quarantine again, also those that did not change.",
)
@with_request
@click.option(
    "--workers",
    type=click.IntRange(1, MAX_WORKERS),
    default=1,
    show_default=True,
    help="How many workers to run, at most: no more than there are shards to make, nor, as "
    "processes, than cores. With cuda each worker has its own device.",
)
@click.option(
    "--runner",
    "runner_name",
    type=click.Choice(RUNNERS.names),
    help="Where workers run: in this process, in processes of this machine, or on a Ray cluster. "
    "Default: local for one worker, processes for several.",
)
@click.option(
    "--address",
    default="",
    help="The address of the Ray cluster. Default: Ray is started on this machine for the export.",
)
@click.option("--strict", is_flag=True, help="End with exit code 4 when an entry is in quarantine.")
def export(
    make_request: Callable[[], ExportRequest],
    update: bool,
    retry_quarantine: bool,
    workers: int,
    runner_name: str | None,
    address: str,
    strict: bool,
) -> None:
    """Embed all images or texts of INPUT into OUTPUT: files of sparse codes.

    INPUT is a folder (with all folders in it), tar shards (WebDataset), a Parquet or Arrow table,
    or a text file that names an image on each line. INPUT and OUTPUT may be on an object store
    (s3://, gs://, az://). To continue an export that was stopped, run the same command again.
    Several processes may work on one OUTPUT. With --update, what is new or changed in INPUT since
    the last run goes into new files, and what is gone is marked. OUTPUT/quarantine lists the
    entries that could not be read, with the reasons. The exit code is 0 when every entry has a row
    or is in quarantine, 1 when the export could not go on, and 3 when there is no row at all.

    `sparseclip export verify OUTPUT` checks every file of an export.
    """
    from serving.export.export_worker import WORKER_ERRORS
    from serving.export.inputs.base import EmptyInputError
    from serving.export.preparation import find_changes, prepare, prepare_update

    if retry_quarantine and not update:
        raise click.UsageError("--retry-quarantine goes with --update")
    runner_name = runner_name or default_runner(workers)
    try:
        runner = RUNNERS.load(runner_name)
        if address and not runner.has_address:
            raise click.UsageError(f"--address: the runner {runner_name} has no cluster")
        runner.open(workers, address)  # what it refuses is said before anything is written
        request = make_request()
        workers_of = _Workers(runner, workers, address)
        with _looking_at_input("listing"):
            generations, is_new = prepare(request)
        summary = _make(request, generations, workers_of)
        with _looking_at_input("comparing"):
            if update and not is_new:
                more = prepare_update(request, generations, retry=retry_quarantine)
            else:
                more = None
                changes = None if is_new else find_changes(request, generations)
        if more is not None:
            summary = _make(request, more, workers_of)
        elif update:
            click.echo("up to date with INPUT")
        elif changes:
            click.echo(
                f"INPUT has changed since it was listed: {changes}. This is not in the export; "
                "--update takes it"
            )
    except EmptyInputError as error:
        raise NothingExportedError(str(error)) from None
    except WORKER_ERRORS as error:
        raise click.ClickException(str(error)) from None
    check_outcome(summary, allow_empty=request.allow_empty, strict=strict)


class _Workers(NamedTuple):
    """Where workers run, and how many the user asked for."""

    runner: type[Runner]
    most: int
    address: str


def _make(request: ExportRequest, generations: Generations, workers: _Workers) -> ExportSummary:
    """Makes the shards that are missing, ends the export, and prints what is in it."""
    from serving.export.finalize import finalize, read_summary
    from serving.export.progress import RunProgress
    from serving.export.receipt import count_unfinished

    before = read_summary(generations.output)
    runner, most, address = workers
    unfinished = count_unfinished(generations.output, generations.shards)
    count = min(most, runner.max_workers(), unfinished)
    request = request.with_cores(runner.default_cores(count))
    entries = sum(plan.job.entries for plan in generations.plans)
    progress = RunProgress()
    with line_when_stopped(lambda: _stopped(f"at {progress.done:,} of {entries:,} entries")):
        with _shown(entries, progress) as on_progress:
            numbers = range(generations.shards)
            runner.open(count, address).run(request, generations.job, numbers, on_progress)
        summary = finalize(generations, request.bundle.opened, progress)
    show_outcome(summary, before, progress)
    return summary


@contextmanager
def _looking_at_input(text: str) -> Iterator[None]:
    with line_when_stopped(lambda: _stopped(f"while {text} INPUT")), show_progress(text, None):
        yield


def _stopped(where: str) -> str:
    """How far an export came, and how it goes on."""
    return f"stopped {where}. Run the same command again: it goes on after the last finished shard"


@contextmanager
def _shown(entries: int, run: RunProgress) -> Iterator[OnProgress]:
    """Adds up what workers report, and shows it with the rate and how busy each stage is."""
    with show_progress("exporting", entries) as advance:

        def on_progress(report: WorkerProgress) -> None:
            run.add(report)
            busy = " ".join(f"{stage} {share:.0%}" for stage, share in run.busy.items())
            advance(report.entries, f"{run.rate:,.0f}/s, busy: {busy}")

        yield on_progress
