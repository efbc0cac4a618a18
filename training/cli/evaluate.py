"""The command `sparseclip evaluate`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from training.cli.pair_options import (
    PairOptions,
    errors_as_typed,
    held_out_option,
    pair_options,
)

if TYPE_CHECKING:
    from rich.table import Table

    from training.evaluation.evaluate import SplitFigures
    from training.evaluation.minilm import SentenceEncoder
    from training.loading.pair_data import PairData
    from training.trainer.training_recipe import TrainingRecipe

DEMO = Path("data/build/demo")
"""Data that a bundle is evaluated on by default."""

COLUMNS = (
    "split",
    "images",
    "labels",
    "chance %",
    "top-1 %",
    "top-5 %",
    "text→image @1 %",
    "L0 image",
    "L0 text",
    "active %",
)
CLARITY_COLUMNS = (
    "split",
    "concepts",
    "clarity",
    "of random sets",
    "untrained",
    "monosemanticity",
    "of random sets",
    "untrained",
)
AGREEMENT_COLUMNS = ("split", "concepts", "agreement", "of other concepts", "untrained")


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path), required=False)
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    help="A data set that `sparseclip data build` built, or your own pairs.  [default: those of a"
    " run; data/build/demo for a bundle]",
)
@pair_options
@held_out_option
@click.option(
    "--split",
    "splits",
    multiple=True,
    help="Split to evaluate. May be repeated.  [default: all held-out splits]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line per split.")
def evaluate(
    model: Path | None,
    data: Path | None,
    read_as: PairOptions,
    splits: tuple[str, ...],
    as_json: bool,
) -> None:
    """Measure zero-shot accuracy, retrieval, sparsity and clarity of MODEL on held-out images.

    MODEL is a bundle or a run's folder; without it, $SPARSECLIP_BUNDLE or the demo bundle. Standard
    errors are clustered by codepoint, or by caption. Of your own pairs, at most 10,000 of a split
    are read. Clarity needs the encoder that `sparseclip data encoder` fetches. Of a run it stands
    beside that of an untrained head over the same tower.

    `sparseclip evaluate steering ADAPTER` measures how well an adapter's answers can be steered.
    """
    from bundle.plugins import PluginError
    from bundle.store import BundleError, default_bundle
    from training.core.checkpoint import CheckpointError
    from training.data.data_recipe import DataError
    from training.evaluation.clarity import named_judge
    from training.evaluation.encoder import CheckpointEncoder, open_encoder
    from training.evaluation.evaluate import evaluate_split
    from training.loading.pair_data import TRAIN
    from training.loading.samples import held_out_splits

    try:
        try:
            encoder = open_encoder(model or default_bundle())
        except CheckpointError as error:
            raise CheckpointError(f"MODEL: {error}") from None
        judge = named_judge(find_judge(), encoder.text_encoder)
        recipe = encoder.recipe if isinstance(encoder, CheckpointEncoder) else None
        is_recipes = data is None and recipe is not None
        with contextlib.nullcontext() if is_recipes else errors_as_typed():
            pairs = choose_data(data, recipe, read_as)
            held_out = held_out_splits(pairs, TRAIN if recipe is None else recipe.data.split)
            if not splits and not held_out:
                raise DataError(f"--split: the run was trained on all of {pairs.name}; name one")
            rows = []
            for split in splits or held_out:
                rows.append(evaluate_split(encoder, pairs, split, judge))
                if as_json:
                    click.echo(json.dumps({"model": encoder.name, **asdict(rows[-1])}))
    except (BundleError, CheckpointError, DataError, PluginError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        return
    show(f"{encoder.name} on {pairs.name}", rows)


def choose_data(
    path: Path | None,
    recipe: TrainingRecipe | None,
    read_as: PairOptions,
) -> PairData:
    """The data that the user named, or those of a run's recipe, or the demo's. Raises DataError."""
    from training.data.data_recipe import DataError

    if path is None:
        read_as.refuse("wants --data")
    if path is None and recipe is not None:
        return recipe.data.open()
    rule = "auto" if recipe is None else recipe.data.held_out
    if rule != "auto" and read_as.held_out not in (None, rule):
        raise DataError(f"--held-out: the run was trained with {rule}")
    return read_as.open(path or DEMO, rule)


def find_judge() -> SentenceEncoder | None:
    """The encoder that judges clarity, or None and a line on stderr that says how to fetch it."""
    from training.evaluation.minilm import HOW_TO_GET, fetched_encoder

    judge = fetched_encoder()
    if judge is None:
        click.echo(f"clarity: not measured; {HOW_TO_GET}", err=True)
    return judge


def show(title: str, rows: list[SplitFigures]) -> None:
    """Prints the figures as tables."""
    from rich.console import Console

    from training.evaluation.evaluate import agreement_cells, clarity_cells

    console = Console()
    cells = []
    for row in rows:
        z = row.zero_shot
        cells.append(
            (
                row.split,
                f"{z.images}",
                f"{z.labels}",
                f"{z.chance:.2f}",
                f"{z.top1.percent:.1f} ± {z.top1.error:.1f}",
                f"{z.top5.percent:.1f} ± {z.top5.error:.1f}",
                f"{z.text_to_image_1.percent:.1f} ± {z.text_to_image_1.error:.1f}",
                f"{row.image_sparsity.l0:.0f}",
                f"{row.text_sparsity.l0:.0f}",
                f"{row.image_sparsity.active:.1f}",
            )
        )
    console.print(_table(title, COLUMNS, cells))
    judged = [(row.clarity.judge, clarity_cells(row)) for row in rows if row.clarity is not None]
    if judged:
        title, figures = f"concepts, judged by {judged[0][0]}", [cells for _, cells in judged]
        console.print(_table(title, CLARITY_COLUMNS, figures))
    agreeing = [agreement_cells(row) for row in rows if row.agreement is not None]
    if agreeing:
        title = "images and texts of a concept, by the same judge"
        console.print(_table(title, AGREEMENT_COLUMNS, agreeing))


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table

    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column == "split" else "right")
    for row in rows:
        table.add_row(*row)
    return table
