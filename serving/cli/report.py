"""`sparseclip report EXPORT`: what an export holds, as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from bundle.bundle_path import BundlePath
from serving.cli._output import watched
from serving.export.inputs import AUTO, INPUTS

MAX_CONCEPTS, MAX_EXAMPLES = 256, 32
"""What a page shows at most: about 30 MB of thumbnails."""


@click.command()
@click.argument("export")
@click.option(
    "-o",
    "--output",
    default="report.html",
    show_default=True,
    help="The file to write; - is standard output. It may replace an older report, but no other "
    "file.",
)
@click.option(
    "--input",
    "source",
    help="The input of EXPORT. The page then shows its images or texts, not only ids. What is not "
    "there as it was exported is not shown; an input of which that holds for all is refused.",
)
@click.option(
    "--kind",
    type=click.Choice([AUTO, *INPUTS.names]),
    default=AUTO,
    show_default=True,
    help="What the input is, as for `sparseclip export`.",
)
@click.option(
    "--bundle",
    type=BundlePath(),
    help="The bundle that made EXPORT, which has the names of all concepts. "
    "Default: $SPARSECLIP_BUNDLE, or the demo bundle, if that bundle made EXPORT.",
)
@click.option(
    "--concepts",
    type=click.IntRange(0, MAX_CONCEPTS),
    help="How many concepts to show with examples.  [default: 48]",
)
@click.option(
    "--top",
    type=click.IntRange(1, MAX_EXAMPLES),
    help="How many examples of each concept to show.  [default: 8]",
)
def report(
    export: str,
    output: str,
    source: str | None,
    kind: str,
    bundle: Path | None,
    concepts: int | None,
    top: int | None,
) -> None:
    """Summarise EXPORT on one page.

    The page shows how many concepts fire on a row, how often each one fires, which fire together,
    the images or texts on which they are strongest, and the entries in quarantine. Of an export
    without codes, such as one of a dense model, it shows the norms of the vectors, what was read,
    and the rows that are nearest to each other.

    The page needs no network and no other file. When the export is not finished, or files were
    altered, the page shows the finished shards and says so.
    """
    from bundle.plugins import PluginError
    from bundle.store import BundleError
    from serving.export.export_reader import ExportReader
    from serving.export.inputs.base import InputError
    from serving.export.inputs.detection import open_input
    from serving.export.job import ExportError
    from serving.report.dense_report import DenseReport
    from serving.report.page import is_page, render
    from serving.report.report import ExportReport, ReportConfig
    from serving.storage.location import Location, LocationError

    try:
        file = None if output == "-" else Location.parse(output)
        if file is not None and file.exists() and not (file.is_folder() or is_page(file)):
            raise LocationError(f"{output}: is there and is no report; choose another -o")
        reader = ExportReader.open(export, watched)
        given = None if source is None else open_input(source, kind, reader.job.column)
        contents: ExportReport | DenseReport
        if reader.holds_codes:
            config = ReportConfig(
                concepts=48 if concepts is None else concepts, top=8 if top is None else top
            )
            contents = ExportReport.of(reader, config, watched, given, bundle)
            holds = f"{len(contents.concepts.id):,} concepts"
        else:
            for option, value in (("concepts", concepts), ("top", top)):
                if value is not None:
                    raise ExportError(f"--{option}: {export} holds dense vectors and no concepts")
            contents = DenseReport.of(reader, watched, given)
            holds = f"{contents.width:,} values each"
        page = render(contents).encode()
        if file is None:
            click.echo(page, nl=False)
        else:
            file.write(page)
    except (BundleError, ExportError, InputError, LocationError, PluginError) as error:
        raise click.ClickException(str(error)) from None
    missing = f"; {contents.not_shown}" if contents.not_shown else ""
    click.echo(
        f"{output}: {contents.summary.rows:,} rows, {holds}, "
        f"{len(page):,} bytes{missing}"
        f"{'' if contents.summary.whole else '; the export is not whole'}",
        err=file is None,
    )
