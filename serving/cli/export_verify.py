"""`sparseclip export verify OUTPUT`."""

from __future__ import annotations

import click

from serving.cli.output import print_json, watched


@click.command()
@click.argument("output")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def verify(output: str, as_json: bool) -> None:
    """Check every file of the export in OUTPUT against its receipt, and that all rows are there."""
    from serving.export.finalize import problems
    from serving.export.job import ExportError
    from serving.storage.location import Place, PlaceError

    try:
        found = list(problems(Place.of(output), watched))
    except (ExportError, PlaceError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        print_json({"problems": found})
    else:
        for problem in found:
            click.echo(problem)
        click.echo("whole" if not found else f"{len(found)} problems; export again to mend them")
    if found:
        raise click.exceptions.Exit(1)
