"""`sparseclip export verify OUTPUT`."""

from __future__ import annotations

import click

from serving.cli._output import print_json, watched


@click.command()
@click.argument("output")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(output: str, as_json: bool) -> None:
    """Check every file of the export in OUTPUT against its receipt, and that all rows are there."""
    from bundle.plugins import PluginError
    from serving.export.job import ExportError
    from serving.export.verify_export import find_problems
    from serving.storage.location import Location, LocationError

    try:
        problems = list(find_problems(Location.parse(output), watched))
    except (ExportError, LocationError, PluginError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        print_json({"problems": problems})
    else:
        for problem in problems:
            click.echo(problem)
        advice = f"{len(problems):,} problems; exporting again mends those that name no other way"
        click.echo(advice if problems else "whole")
    if problems:
        raise click.exceptions.Exit(1)
