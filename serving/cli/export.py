"""`sparseclip export INPUT OUTPUT` and `sparseclip export verify OUTPUT`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from serving.engines.onnx import available_cores
from serving.export.inputs.choose import Kind

if TYPE_CHECKING:
    from serving.export.done import Done
    from serving.export.exporter import Exporter, Step

VERIFY = "verify"


class _Export(click.Command):
    """`verify` has a command of its own; anything else is an input."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: object,
    ) -> click.Context:
        if args[:1] == [VERIFY]:
            return verify.make_context(f"{info_name} {VERIFY}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(cls=_Export)
@click.argument("source", metavar="INPUT")
@click.argument("output")
@click.option(
    "--kind",
    type=click.Choice(get_args(Kind)),
    default="auto",
    show_default=True,
    help="What INPUT is: pictures in a folder, tar shards, a table, or a list of paths.",
)
@click.option("--column", default="", help="Of a table: the column with pictures or texts.")
@click.option("--id-column", default="", help="Of a table: the column with ids.")
@click.option(
    "--bundle",
    "bundle_path",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A bundle. Default: the shipped one.",
)
@click.option("--top", default=10, show_default=True, help="Named concepts of a row; 0: none.")
@click.option("--dense", is_flag=True, help="The dense vector as well.")
@click.option("--rows", default=4096, show_default=True, help="Entries of an output file.")
@click.option("--batch", default=32, show_default=True, help="Rows of one run of the model.")
@click.option("--decoders", default=0, help="Decoding processes. Default: one a core, at most 8.")
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where."
)
def export(
    source: str,
    output: str,
    kind: Kind,
    column: str,
    id_column: str,
    bundle_path: Path | None,
    top: int,
    dense: bool,
    rows: int,
    batch: int,
    decoders: int,
    device: str,
) -> None:
    """Embed all pictures or texts of INPUT into OUTPUT: Parquet files of sparse codes.

    INPUT is a folder (with all below it), tar shards (WebDataset), a Parquet or Arrow table, or a
    text file that names pictures, a line each. Both may be on an object store (s3://, gs://,
    az://). Run again after any stop, it goes on where it was; several processes may work at one
    OUTPUT. What cannot be read is in OUTPUT/quarantine with its reason.

    `sparseclip export verify OUTPUT` checks every file of an export.
    """
    from bundle.store import BundleError, default_bundle, open_bundle
    from serving.engines.base import EngineConfig, EngineError
    from serving.engines.onnx import OnnxEngine
    from serving.errors import StartupError
    from serving.export.exporter import Exporter, settle
    from serving.export.inputs.base import InputError
    from serving.export.inputs.choose import open_input
    from serving.export.job import ExportError, OutputConfig
    from serving.export.place import Place, PlaceError

    try:
        outputs = OutputConfig(top=top, dense=dense, rows=rows, batch=batch)
        opened = open_input(source, kind, column, id_column)
        place = Place.of(output)
        bundle = open_bundle(bundle_path or default_bundle())
        engine = OnnxEngine.open(bundle, EngineConfig(device=device))  # type: ignore[arg-type]
        job = settle(opened, place, bundle, engine, outputs, column, id_column)
        workers = decoders or min(8, available_cores())
        exporter = Exporter(job, opened, place, bundle, engine, workers)
        done = asyncio.run(_shown(exporter))
    except (BundleError, EngineError, ExportError, InputError, PlaceError, StartupError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(
        f"{done.rows:,} rows, {done.quarantined:,} in quarantine, {done.shards:,} shards, "
        f"{done.size:,} bytes; {done.run.entries_per_second:,} entries/s in this run, "
        f"{exporter.clock.bottleneck} the busiest"
    )


async def _shown(exporter: Exporter) -> Done:
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
        task = progress.add_task("", total=exporter.entries, rate=0.0, busy="")

        def on_step(step: Step) -> None:
            wall = exporter.clock.wall
            busy = " ".join(
                f"{name} {100 * stage.busy(wall):.0f}%"
                for name, stage in exporter.clock.stages.items()
            )
            progress.update(task, advance=step.entries, rate=exporter.made / wall, busy=busy)

        return await exporter.run(on_step)


@click.command()
@click.argument("output")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def verify(output: str, as_json: bool) -> None:
    """Check every file of the export in OUTPUT against its receipt, and that all rows are there."""
    from serving.export.done import problems
    from serving.export.job import ExportError
    from serving.export.place import Place, PlaceError

    try:
        found = list(problems(Place.of(output)))
    except (ExportError, PlaceError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps({"problems": found}))
    else:
        for problem in found:
            click.echo(problem)
        click.echo("whole" if not found else f"{len(found)} problems; export again to mend them")
    if found:
        raise click.exceptions.Exit(1)
