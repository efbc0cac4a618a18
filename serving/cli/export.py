"""`sparseclip export INPUT OUTPUT`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from bundle.manifest import Framing
from serving.cli._export_outcome import NothingExportedError, show_outcome
from serving.cli._inputs import concept_key
from serving.cli._progress import show_progress
from serving.cli._sigterm import stopped_by_sigterm
from serving.engines import ENGINES, Device
from serving.export.bounds import (
    MAX_BATCH,
    MAX_CORES,
    MAX_DECODERS,
    MAX_ROWS,
    MAX_TOP,
    MAX_WORKERS,
)
from serving.export.formats import FORMATS
from serving.export.inputs import AUTO, INPUTS
from serving.export.runners import RUNNERS, default_runner

if TYPE_CHECKING:
    from serving.export.progress import OnProgress, RunProgress, WorkerProgress


def _not_empty(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuses "", which would stand for the current folder."""
    if not value.strip():
        raise click.BadParameter("must not be empty")
    return value


@click.command()
@click.argument("source", metavar="INPUT", callback=_not_empty)
@click.argument("output", callback=_not_empty)
@click.option(
    "--kind",
    type=click.Choice([AUTO, *INPUTS.names]),
    default=AUTO,
    show_default=True,
    help="What INPUT is: images in a folder, tar shards, a table, or a list of paths. "
    "auto decides by the names of the files, and refuses a mix.",
)
@click.option("--column", default="", help="The column of a table that holds the images or texts.")
@click.option(
    "--id-column",
    default="",
    help="The column of a table that holds the ids. Without it, an id is a file and a row.",
)
@click.option(
    "--bundle",
    "bundle_path",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The bundle that embeds INPUT. Default: $SPARSECLIP_BUNDLE, or the demo bundle.",
)
@click.option(
    "--sparse/--no-sparse",
    default=True,
    show_default=True,
    help="Whether to write the codes: the indices and values of the active concepts.",
)
@click.option(
    "--top",
    type=click.IntRange(0, MAX_TOP),
    default=10,
    show_default=True,
    help="How many of a row's strongest concepts to write with their names; 0 writes none.",
)
@click.option("--dense", is_flag=True, help="Write the dense vector that images and texts share.")
@click.option(
    "--patch",
    "patches",
    multiple=True,
    metavar="CONCEPT",
    help="Write where in an image this concept fires. CONCEPT is an id or a name (repeatable).",
)
@click.option(
    "--framing",
    type=click.Choice(get_args(Framing)),
    help="How an image becomes square: crop keeps its middle, pad keeps all of it. Default: the "
    "model's own.",
)
@click.option(
    "--refuse-long-texts",
    is_flag=True,
    help="Put a text that is longer than the model's context into quarantine. Without it, the text "
    "is cut, and its row says so.",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(FORMATS.names),
    default=FORMATS.names[0],
    show_default=True,
    help="The format of the data files.",
)
@click.option(
    "--rows",
    type=click.IntRange(1, MAX_ROWS),
    default=4096,
    show_default=True,
    help="How many entries a shard holds.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, MAX_BATCH),
    default=32,
    show_default=True,
    help="How many rows one run of the model takes.",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES.names),
    default=ENGINES.names[0],
    show_default=True,
    help="The engine that runs the model.",
)
@click.option(
    "--engine-device",
    "device",
    type=click.Choice(get_args(Device)),
    default="cpu",
    show_default=True,
    help="The device that the engine runs on.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, MAX_WORKERS),
    default=1,
    show_default=True,
    help="How many workers to run, at most: no more than there are shards to make, nor, as "
    "processes, than cores. With cuda each worker has its own device.",
)
@click.option(
    "--cores",
    type=click.IntRange(0, MAX_CORES),
    default=0,
    help="How many cores a worker uses. 0 or not given: its share of this machine's cores, or 1 "
    "on Ray.",
)
@click.option(
    "--decoders",
    type=click.IntRange(0, MAX_DECODERS),
    default=0,
    help="How many processes decode images for a worker. 0 or not given: one per core, at most 8.",
)
@click.option(
    "--runner",
    "runner_name",
    type=click.Choice(RUNNERS.names),
    help="Where workers run: in this process, in processes of this machine, or on a Ray cluster. "
    "Default: local for one worker, processes for several.",
)
@click.option(
    "--allow-empty",
    is_flag=True,
    help="Take an INPUT of which nothing becomes a row. Without it, the exit code is 3.",
)
@click.option("--strict", is_flag=True, help="End with exit code 4 when an entry is in quarantine.")
@click.option(
    "--address",
    default="",
    help="The address of the Ray cluster. Default: Ray is started on this machine for the export.",
)
def export(
    source: str,
    output: str,
    kind: str,
    column: str,
    id_column: str,
    bundle_path: Path | None,
    sparse: bool,
    top: int,
    dense: bool,
    patches: tuple[str, ...],
    framing: Framing | None,
    refuse_long_texts: bool,
    format_name: str,
    rows: int,
    batch: int,
    engine: str,
    device: Device,
    workers: int,
    cores: int,
    decoders: int,
    runner_name: str | None,
    allow_empty: bool,
    strict: bool,
    address: str,
) -> None:
    """Embed all images or texts of INPUT into OUTPUT: files of sparse codes.

    INPUT is a folder (with all folders in it), tar shards (WebDataset), a Parquet or Arrow table,
    or a text file that names an image on each line. INPUT and OUTPUT may be on an object store
    (s3://, gs://, az://). To continue an export that was stopped, run the same command again.
    Several processes may work on one OUTPUT. OUTPUT/quarantine lists the entries that could not be
    read, with the reasons. The exit code is 0 when every entry has a row or is in quarantine, 1
    when the export could not go on, and 3 when there is no row at all.

    `sparseclip export verify OUTPUT` checks every file of an export.
    """
    from bundle.store import default_bundle, open_bundle
    from serving.engines.base import EngineConfig
    from serving.export.export_request import ExportRequest
    from serving.export.export_worker import WORKER_ERRORS
    from serving.export.finalize import finalize
    from serving.export.inputs.base import EmptyInputError
    from serving.export.job import OutputConfig
    from serving.export.plan import ExportPlan
    from serving.export.progress import RunProgress
    from serving.export.receipt import count_unfinished

    runner_name = runner_name or default_runner(workers)
    try:
        runner_class = RUNNERS.load(runner_name)
        if address and not runner_class.has_address:
            raise click.UsageError(f"--address: the runner {runner_name} has no cluster")
        runner_class.open(workers, address)  # what it refuses is said before anything is written
        bundle_path = bundle_path or default_bundle()
        request = ExportRequest(
            source=source,
            kind=kind,
            column=column,
            id_column=id_column,
            output=output,
            allow_empty=allow_empty,
            bundle=bundle_path,
            outputs=OutputConfig(
                sparse=sparse,
                top=top,
                dense=dense,
                patches=_concept_ids(bundle_path, patches),
                framing=framing,
                refuse_long_texts=refuse_long_texts,
                format=format_name,
                rows=rows,
                batch=batch,
            ),
            engine=EngineConfig(name=engine, device=device),
            cores=cores,
            decoders=decoders,
        )
        with stopped_by_sigterm():
            job = request.prepare()
            folder, progress = request.open_output(), RunProgress()
            plan = ExportPlan.open(folder, job)
            unfinished = count_unfinished(folder, plan.shards)
            workers = min(workers, runner_class.max_workers(), unfinished)
            request = request.with_cores(runner_class.default_cores(workers))
            with _shown(plan.entries, progress) as on_progress:
                runner = runner_class.open(workers, address)
                runner.run(request, job, range(plan.shards), on_progress)
            summary = finalize(folder, job, open_bundle(request.bundle), progress)
    except EmptyInputError as error:
        raise NothingExportedError(str(error)) from None
    except WORKER_ERRORS as error:
        raise click.ClickException(str(error)) from None
    show_outcome(summary, progress, allow_empty=allow_empty, strict=strict)


def _concept_ids(bundle: Path, concepts: Sequence[str]) -> tuple[int, ...]:
    """Ids of concepts that are named or numbered, ascending. Raises ExportError for one that the
    bundle does not have."""
    if not concepts:
        return ()
    from bundle.store import open_bundle
    from serving.core.errors import ServingError
    from serving.core.requests import find_concept
    from serving.export.job import ExportError

    vocabulary, ids = open_bundle(bundle).concepts, set[int]()
    for text in concepts:
        try:
            ids.add(find_concept(vocabulary, concept_key(text), f"--patch {text}").id)
        except ServingError as error:
            raise ExportError(error.message) from None
    return tuple(sorted(ids))


@contextmanager
def _shown(entries: int, run: RunProgress) -> Iterator[OnProgress]:
    """Adds up what workers report, and shows it with the rate and how busy each stage is."""
    with show_progress("exporting", entries) as advance:

        def on_progress(report: WorkerProgress) -> None:
            run.add(report)
            busy = " ".join(f"{stage} {share:.0%}" for stage, share in run.busy.items())
            advance(report.entries, f"{run.rate:,.0f}/s, busy: {busy}")

        yield on_progress
