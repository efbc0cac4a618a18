"""`sparseclip evaluate`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path), required=False)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("data/build/demo"),
    show_default=True,
    help="A data set built by `sparseclip data build`.",
)
@click.option(
    "--split", "splits", multiple=True, help="May be repeated. Default: all that is held out."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a split, a line each.")
def evaluate(model: Path | None, data: Path, splits: tuple[str, ...], as_json: bool) -> None:
    """Zero-shot, retrieval and sparsity of MODEL on held-out pictures.

    MODEL is a bundle or a run's folder; the shipped bundle when none is given. Standard errors are
    clustered by codepoint.
    """
    from bundle.store import BundleError, default_bundle
    from training.checkpoint import CheckpointError
    from training.data.recipe import DataError
    from training.encoder import open_encoder
    from training.evaluate import evaluate_split, held_out_splits

    try:
        encoder = open_encoder(model or default_bundle())
        rows = []
        for split in splits or held_out_splits(data):
            rows.append(evaluate_split(encoder, data, split))
            if as_json:
                click.echo(json.dumps({"model": encoder.name, **asdict(rows[-1])}))
    except (BundleError, CheckpointError, DataError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{encoder.name} on {data.name}")
    for column in (
        "split",
        "pictures",
        "labels",
        "chance %",
        "top-1 %",
        "top-5 %",
        "text→image @1 %",
        "L0 image",
        "L0 text",
        "active %",
    ):
        table.add_column(column, justify="left" if column == "split" else "right")
    for row in rows:
        z = row.zero_shot
        table.add_row(
            row.split,
            str(z.pictures),
            str(z.labels),
            f"{z.chance:.2f}",
            f"{z.top1.percent:.1f} ± {z.top1.error:.1f}",
            f"{z.top5.percent:.1f} ± {z.top5.error:.1f}",
            f"{z.text_to_image_1.percent:.1f} ± {z.text_to_image_1.error:.1f}",
            f"{row.image_sparsity.l0:.0f}",
            f"{row.text_sparsity.l0:.0f}",
            f"{row.image_sparsity.active:.1f}",
        )
    Console().print(table)
