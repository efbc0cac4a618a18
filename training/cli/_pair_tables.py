"""Reports on pairs as tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from training.loading.inspection import EXAMPLES, SplitReport, quantiles
from training.loading.sources.base import printable

COLUMNS = ("split", "found", "good", "bad", "damaged files", "held out", "repeated images")


def show_reports(title: str, reports: Sequence[SplitReport]) -> None:
    """Prints the counts of all splits, then for each what is bad and what the captions are like."""
    console = Console()
    table = Table(title=escape(title))
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "split" else "right")
    for report in reports:
        numbers = (report.found, report.good, report.bad, len(report.damaged), report.held_out)
        table.add_row(report.split, *(f"{n:,}" for n in (*numbers, report.repeated_images)))
    console.print(table)
    for report in reports:
        for line in _lines(report):
            # Captions and names are a user's text, and no markup.
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _lines(report: SplitReport) -> list[str]:
    lines = [f"{report.split}:"]
    lines += [f"  bad, {reason}: {number:,}" for reason, number in report.reasons.most_common()]
    lines += [f"    {pair.key}: {pair.reason}" for pair in report.bad_pairs]
    if report.bad > len(report.bad_pairs):
        lines.append(f"    and {report.bad - len(report.bad_pairs):,} more")
    lines += [f"  damaged: {piece}: {reason}" for piece, reason in report.damaged.items()]
    if report.left_out:
        files = ", ".join(f"{number:,} {ending}" for ending, number in report.left_out.items())
        lines.append(f"  files and members that belong to no pair: {files}")
    if report.seen_in_other_splits:
        lines.append(f"  images of the splits above: {report.seen_in_other_splits:,}")
    if report.good:
        captions, distinct = report.texts.total(), len(report.texts)
        lines.append(f"  captions: {captions:,}, of which {distinct:,} are distinct")
        lines.append(f"  tokens of a caption: {_figures(quantiles(report.lengths))}")
        lines.append(f"  captions cut at the context: {report.cut:,}")
        lines.append(f"  shorter side of an image: {_figures(quantiles(report.sides))}")
        repeated = [(text, n) for text, n in report.texts.most_common(EXAMPLES) if n > 1]
        lines += [f"  repeats {n:,} times: {_short(text)}" for text, n in repeated]
        lines += [f"  {key}: {_short(' | '.join(texts))}" for key, texts in report.examples]
    return lines


def _figures(values: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {value:,}" for name, value in values.items())


def _short(text: str) -> str:
    text = printable(" ".join(text.split()))
    return text if len(text) <= 100 else f"{text[:97]}..."
