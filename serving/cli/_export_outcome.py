"""How an export ended: its last line, and its exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from serving.storage.left_out import LeftOut

if TYPE_CHECKING:
    from serving.export.finalize import ExportSummary
    from serving.export.progress import RunProgress


class NothingExportedError(click.ClickException):
    """An export without a row."""

    exit_code = 3


class QuarantineError(click.ClickException):
    """An export with entries in quarantine, where none was to be."""

    exit_code = 4


def show_outcome(
    summary: ExportSummary, before: ExportSummary | None, progress: RunProgress
) -> None:
    """Prints what became of everything that was found. `before` is what the export was when this
    run began; None where it was not finished."""
    left_out = sum(summary.left_out.values())
    reasons = f" ({LeftOut(summary.left_out)})" if left_out else ""
    totals = (
        f"{summary.rows:,} rows, {summary.quarantined:,} in quarantine, "
        f"{left_out:,} left out{reasons}, "
        f"{summary.shards:,} shards, {summary.size:,} bytes"
    )
    if summary.generation:
        totals = f"update {summary.generation}: {totals}, {summary.ended:,} ended"
    if progress.entries:
        rate = f"{progress.rate:,.1f} entries/s in this run, {progress.bottleneck} the busiest"
        click.echo(f"{totals}; {rate}")
    else:  # an update that only ends rows makes no entry, and changes the export all the same
        click.echo(f"whole already: {totals}" if summary == before else totals)


def check_outcome(summary: ExportSummary, *, allow_empty: bool, strict: bool) -> None:
    """Raises NothingExportedError for an export without a row, unless `allow_empty`, and with
    `strict` QuarantineError for one with an entry in quarantine."""
    if not summary.rows and not allow_empty:
        raise NothingExportedError("no row: every entry is in quarantine")
    if strict and summary.quarantined:
        raise QuarantineError(f"{summary.quarantined:,} in quarantine")
