"""`sparseclip evaluate steering`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bundle.atomic import draft_of
from bundle.bundle_path import BundlePath
from training.cli.pair_options import (
    PairOptions,
    errors_as_typed,
    held_out_option,
    pair_options,
)

if TYPE_CHECKING:
    from training.loading.pair_data import PairData

COLUMNS = {
    "condition": "condition",
    "K": "top",
    "SS": "strength",
    "exact %": "exact",
    "half %": "half",
    "old %": "old",
    "both %": "both",
    "corrupted %": "corrupted",
    "SBERT %": "nearer_new",
}
"""The columns of the table of steered conditions: heading, and key of the figure."""


def _new_plot(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Refuses, before hours of work, a file that is there and a format that cannot be drawn."""
    if path is None:
        return None
    from matplotlib.backend_bases import FigureCanvasBase

    if path.exists():
        raise click.BadParameter(f"{path.name}: is there; choose another file")
    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in known:
        raise click.BadParameter(f"{path.name}: ends in none of {', '.join(sorted(known))}")
    return path


@click.command()
@click.argument(
    "adapter", type=click.Path(exists=True, file_okay=False, path_type=Path), required=False
)
@click.option(
    "--bundle",
    "bundle_path",
    type=BundlePath(),
    help="The bundle of the backbone that the adapter was trained on. "
    "Default: $SPARSECLIP_BUNDLE, or the demo bundle.",
)
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    default=Path("data/build/demo"),
    show_default=True,
    help="The data that the adapter learned from, of any kind that training takes. Of your own"
    " pairs, at most 10,000 of a split are read.",
)
@pair_options
@held_out_option
@click.option(
    "--split",
    help="The held-out split to evaluate on.  [default: test_style of a built data set, else the"
    " only one]",
)
@click.option(
    "--trained",
    default="train",
    show_default=True,
    help="The split that the adapter learned from: its captions are the labels to steer to.",
)
@click.option(
    "--images", default=400, show_default=True, help="Steer at most this many images per condition."
)
@click.option("--shapes/--no-shapes", default=True, help="Also ask easy-vqa's test questions.")
@click.option("--threads", default=0, help="CPU threads; 0 means torch's default.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_new_plot,
    help="Draw the sweep to this file, which must be a new one.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per condition and line."
)
def steering(
    adapter: Path | None,
    bundle_path: Path | None,
    data: Path,
    read_as: PairOptions,
    split: str | None,
    trained: str,
    images: int,
    shapes: bool,
    threads: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure what an adapter answers about held-out images, and how well it is steered.

    ADAPTER is a folder with adapter.json; the default is the bundle's own. An image that is named
    right is steered to another label: the true label's concepts are set to 0, the strongest of
    the other label's top K concepts is set to SS, and the others in proportion. "even values" sets
    all of them to SS, as the paper does.

    Columns. "half": the answer has half of the new label's words. "old": it has a word of the old
    label. "both": it has half of the new label's words, none of the old one's, and is not
    corrupted. "SBERT": its sentence embedding is nearer the new label than the old one, by
    all-MiniLM-L6-v2, which `sparseclip data encoder` fetches.

    Controls. "random concepts": the same number of concepts, which fire about as often. "told":
    the question says what to answer. "difference of means": the difference of two labels' mean
    codes is added. "difference of hidden states": the same with the LLM's states after its middle
    layer.

    "is it" asks yes-or-no questions. "part" edits only the words in which two labels differ;
    "both" then needs every word of the new label.
    """
    import torch

    from bundle.store import BundleError, default_bundle, open_bundle
    from mllm_adapter.evaluation.evaluate import Evaluation, Sweep
    from training.data.data_recipe import DataError
    from training.evaluation.minilm import HOW_TO_GET, fetched_encoder

    if threads:
        torch.set_num_threads(threads)
    judge = fetched_encoder()
    if judge is None:
        click.echo(f"SBERT: not measured; {HOW_TO_GET}", err=True)
    rows: list[dict[str, Any]] = []

    def add(row: dict[str, Any]) -> None:
        rows.append(row)
        if as_json:
            click.echo(json.dumps({"split": split, **row}))

    try:
        bundle = open_bundle(bundle_path or default_bundle())
        folder = adapter or bundle.root / "adapter"
        with errors_as_typed():
            pairs = read_as.open(data)
            split = split or _held_out_split(pairs, trained)
            evaluation = Evaluation(folder, bundle, pairs, split, judge, trained)
        figures, answers = evaluation.unsteered()
        figures |= evaluation.yes_no()
        if shapes:
            figures |= evaluation.easy_vqa()
        for name, figure in figures.items():
            add({"condition": name, **figure})
        correct = evaluation.correct(answers)
        if not correct:
            click.echo("steering: not measured; no image is named right", err=True)
        steered = 0
        for row in evaluation.steering(correct, Sweep(images=images)) if correct else ():
            add(row)
            steered += 1
        if correct and not steered:
            click.echo(
                "steering: not measured; no image that is named right can be steered to another"
                " label of the split that was trained on and shares no word with its own",
                err=True,
            )
    except (BundleError, DataError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    if not as_json:
        show(f"{folder.name} on {split}", rows)
    if plot is not None:
        draw(rows, plot)


def _held_out_split(data: PairData, trained: str) -> str:
    """The split of some data that an adapter is evaluated on where nobody names one. Raises
    DataError where there are several, or none."""
    from training.data.data_recipe import DataError
    from training.loading.samples import held_out_splits

    splits = held_out_splits(data, trained)
    if data.is_built and "test_style" in splits:
        return "test_style"
    if len(splits) != 1:
        raise DataError(f"data.split: name one of {', '.join(data.splits)}")
    return splits[0]


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """Prints one table of unsteered figures, and one of steered conditions."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    unsteered = Table("condition", "exact %", "half %", "SBERT cosine", "answers", title=title)
    steered = Table(*COLUMNS, title="steered")
    for row in rows:
        if "both" in row:
            steered.add_row(*(_cell(row.get(key)) for key in COLUMNS.values()))
        else:
            keys = ("exact", "half", "cosine", "images")
            unsteered.add_row(row["condition"], *(_cell(row[key]) for key in keys))
    console.print(unsteered)
    if steered.row_count:
        console.print(steered)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Plots exact answers over K: a line per strength, and the best of each control as dashes.

    Raises ClickException for a file that is there or cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(figsize=(8.5, 4.5), layout="constrained")
    swept = [row for row in rows if row["condition"] == "steered"]
    for strength in sorted({row["strength"] for row in swept}):
        line = sorted((r["top"], r["exact"]) for r in swept if r["strength"] == strength)
        axes.plot(*zip(*line, strict=True), marker="o", label=f"SS = {strength:g}")
    styles: dict[str, Any] = {
        "random concepts": ":",
        "told": "-.",
        "difference of means": "--",
        "difference of hidden states": (0, (6, 3, 1, 3, 1, 3)),
    }
    for condition, style in styles.items():
        exact = [row["exact"] for row in rows if row["condition"] == condition]
        if exact:
            axes.axhline(max(exact), color="grey", ls=style, label=condition)
    axes.set(xlabel="concepts of the new label (K)", ylabel="answers that are the new label, %")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    try:
        with draft_of(path, replace=False) as draft:
            figure.savefig(draft, dpi=120, format=path.suffix.lower().lstrip("."))
    except OSError as error:
        reason = "is there" if isinstance(error, FileExistsError) else error.strerror
        raise click.ClickException(f"--plot: {path.name}: {reason}") from None
