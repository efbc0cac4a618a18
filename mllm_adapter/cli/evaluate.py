"""`sparseclip evaluate steering`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

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
"""Heads of the table of steered conditions, and what stands under them."""


@click.command()
@click.argument(
    "adapter", type=click.Path(exists=True, file_okay=False, path_type=Path), required=False
)
@click.option(
    "--bundle",
    "bundle_path",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The backbone that the adapter was trained on. "
    "Default: $SPARSECLIP_BUNDLE, or the demo bundle.",
)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("data/build/demo"),
    show_default=True,
    help="A data set built by `sparseclip data build`.",
)
@click.option("--split", default="test_style", show_default=True, help="Held-out images.")
@click.option("--images", default=400, show_default=True, help="Steered under each condition.")
@click.option("--shapes/--no-shapes", default=True, help="Also answer easy-vqa's test questions.")
@click.option("--threads", default=0, help="CPU threads; 0 leaves torch's choice.")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the sweep here."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a condition, a line each.")
def steering(
    adapter: Path | None,
    bundle_path: Path | None,
    data: Path,
    split: str,
    images: int,
    shapes: bool,
    threads: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """What ADAPTER, a folder with adapter.json (default: the bundle's own), answers about held-out
    images, and how it is steered: the true label's concepts to 0, of another label's top K the
    strongest to SS and the others in proportion ("even values": all to SS, as the paper does).

    "half": the answer has half of the new label's words; "old": a word of the old one; "both": half
    of the new and none of the old, not corrupted; "SBERT": nearer the new label than the old one by
    all-MiniLM-L6-v2, which `sparseclip data encoder` fetches. Controls: as many concepts of like
    frequency, the question saying what to answer, the difference of two labels' mean codes, and of
    the LLM's hidden states behind its middle layer. "is it": answers of yes or no. "part"
    edits one word of a label, and "both" is then every word of the new one.
    """
    import torch

    from bundle.store import BundleError, default_bundle, open_bundle
    from mllm_adapter.evaluation.evaluate import Evaluation, Sweep
    from training.data.recipe import DataError
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
        evaluation = Evaluation(folder, bundle, data, split, judge)
        figures, answers = evaluation.unsteered()
        figures |= evaluation.confirmed()
        if shapes:
            figures |= evaluation.shapes()
        for name, figure in figures.items():
            add({"condition": name, **figure})
        right = evaluation.right(answers)
        if not right:
            click.echo("steering: not measured; no image is named right", err=True)
        for row in evaluation.steering(right, Sweep(images=images)) if right else ():
            add(row)
    except (BundleError, DataError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    if plot is not None:
        draw(rows, plot)
    if not as_json:
        show(f"{folder.name} on {split}", rows)


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """Prints unsteered figures and the sweep as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    plain = Table("condition", "exact %", "half %", "SBERT cosine", "answers", title=title)
    table = Table(*COLUMNS, title="steered")
    for row in rows:
        if "both" in row:
            table.add_row(*(_cell(row.get(column)) for column in COLUMNS.values()))
        else:
            names = ("exact", "half", "cosine", "images")
            plain.add_row(row["condition"], *(_cell(row[name]) for name in names))
    console.print(plain)
    console.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Exact answers over K, a line for each strength, and the controls as dashes."""
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
        found = [row["exact"] for row in rows if row["condition"] == condition]
        if found:
            axes.axhline(max(found), color="grey", ls=style, label=condition)
    axes.set(xlabel="concepts of the new label (K)", ylabel="answers that are the new label, %")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    figure.savefig(path, dpi=120)
