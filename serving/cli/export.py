"""`sparseclip export INPUT OUTPUT`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import click

from serving.cli.inputs import concept_key
from serving.engines.base import available_cores
from serving.export.formats.base import FormatName
from serving.export.inputs.choose import Kind

if TYPE_CHECKING:
    from serving.export.job import Job
    from serving.export.progress import Step, Tally
    from serving.export.request import Task

    Runner = Callable[[Task, Job, Sequence[int], Callable[[Step], None]], None]


@click.command()
@click.argument("source", metavar="INPUT")
@click.argument("output")
@click.option(
    "--kind",
    type=click.Choice(get_args(Kind)),
    default="auto",
    show_default=True,
    help="What INPUT is: images in a folder, tar shards, a table, or a list of paths.",
)
@click.option("--column", default="", help="Of a table: the column with images or texts.")
@click.option("--id-column", default="", help="Of a table: the column with ids.")
@click.option(
    "--bundle",
    "bundle_path",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A bundle. Default: $SPARSECLIP_BUNDLE, or the demo bundle.",
)
@click.option("--sparse/--no-sparse", default=True, show_default=True, help="The codes.")
@click.option("--top", default=10, show_default=True, help="Named concepts of a row; 0: none.")
@click.option("--dense", is_flag=True, help="The dense vector as well.")
@click.option(
    "--patch",
    "patches",
    multiple=True,
    metavar="CONCEPT",
    help="Where in an image this concept is, by its id or name (repeatable).",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(get_args(FormatName)),
    default="parquet",
    show_default=True,
    help="Of the output's files.",
)
@click.option("--rows", default=4096, show_default=True, help="Entries of a shard.")
@click.option("--batch", default=32, show_default=True, help="Rows of one run of the model.")
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where."
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes, with a CUDA device each; of a cluster: actors.",
)
@click.option(
    "--cores",
    type=click.IntRange(min=0),
    default=0,
    help="Of a worker. Default: its share of this machine's; of a cluster: 1.",
)
@click.option(
    "--decoders",
    type=click.IntRange(min=0),
    default=0,
    help="Decoding processes of a worker. Default: one a core, at most 8.",
)
@click.option(
    "--runner",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Workers of this machine, or of a Ray cluster.",
)
@click.option("--address", default="", help="Of the Ray cluster. Default: a Ray of this machine.")
def export(
    source: str,
    output: str,
    kind: Kind,
    column: str,
    id_column: str,
    bundle_path: Path | None,
    sparse: bool,
    top: int,
    dense: bool,
    patches: tuple[str, ...],
    form: FormatName,
    rows: int,
    batch: int,
    device: Literal["cpu", "cuda"],
    workers: int,
    cores: int,
    decoders: int,
    runner: str,
    address: str,
) -> None:
    """Embed all images or texts of INPUT into OUTPUT: files of sparse codes.

    INPUT is a folder (with all below it), tar shards (WebDataset), a Parquet or Arrow table, or a
    text file that names images, a line each. Both may be on an object store (s3://, gs://,
    az://). Run again after any stop, it goes on where it was; several processes may work at one
    OUTPUT. What cannot be read is in OUTPUT/quarantine with its reason.

    `sparseclip export verify OUTPUT` checks every file of an export.
    """
    from bundle.store import default_bundle, open_bundle
    from serving.engines.base import EngineConfig
    from serving.export.finalize import Run, finish
    from serving.export.job import OutputConfig
    from serving.export.plan import Plan
    from serving.export.progress import Tally
    from serving.export.request import Task
    from serving.export.worker import ERRORS

    if address and runner != "ray":
        raise click.UsageError("--address: needs --runner ray")
    cores = cores or (max(1, available_cores() // workers) if runner == "local" else 1)
    try:
        bundle_path = bundle_path or default_bundle()
        task = Task(
            source=source,
            kind=kind,
            column=column,
            id_column=id_column,
            output=output,
            bundle=bundle_path,
            outputs=OutputConfig(
                sparse=sparse,
                top=top,
                dense=dense,
                patches=_concepts(bundle_path, patches),
                format=form,
                rows=rows,
                batch=batch,
            ),
            engine=EngineConfig(device=device),
            cores=cores,
            decoders=decoders or min(8, cores),
        )
        job = task.settle()
        place = task.open_output()
        plan, tally = Plan.of(place, job), Tally()
        with _shown(plan.entries, tally) as on_step:
            _runner(runner, workers, address)(task, job, range(plan.shards), on_step)
        done = finish(place, job, open_bundle(task.bundle), Run.of(tally))
    except ERRORS as error:
        raise click.ClickException(str(error)) from None
    click.echo(
        f"{done.rows:,} rows, {done.quarantined:,} in quarantine, {done.shards:,} shards, "
        f"{done.size:,} bytes; {done.run.entries_per_second:,} entries/s in this run, "
        f"{tally.bottleneck} the busiest"
    )


def _concepts(bundle: Path, named: Sequence[str]) -> tuple[int, ...]:
    """Ids of concepts, ascending. Raises ExportError for one that the bundle has not."""
    if not named:
        return ()
    from bundle.store import open_bundle
    from serving.core.errors import ServingError
    from serving.core.requests import find_concept
    from serving.export.job import ExportError

    known, found = open_bundle(bundle).concepts, set[int]()
    for text in named:
        try:
            found.add(find_concept(known, concept_key(text), f"--patch {text}").id)
        except ServingError as error:
            raise ExportError(error.message) from None
    return tuple(sorted(found))


def _runner(name: str, workers: int, address: str) -> Runner:
    if name == "ray":
        from serving.export.runners import ray_runner as ray

        return partial(ray.run, workers=workers, address=address)
    if workers > 1:
        from serving.export.runners import processes

        return partial(processes.run, workers=workers)
    from serving.export.runners import local

    return local.run


@contextmanager
def _shown(entries: int, tally: Tally) -> Iterator[Callable[[Step], None]]:
    """Counts steps, and shows them as a bar with the rate and how busy each stage is."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.completed:,}/{task.total:,}"),
        BarColumn(),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[busy]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=entries, rate=0.0, busy="")

        def on_step(step: Step) -> None:
            tally.add(step)
            busy = " ".join(f"{stage} {share:.0%}" for stage, share in tally.busy.items())
            progress.update(task, advance=step.entries, rate=tally.rate, busy=busy)

        yield on_step
