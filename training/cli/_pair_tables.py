"""Reports on pairs as tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from training.loading.inspection import EXAMPLES, DataReport, SplitReport, histogram, quantiles
from training.loading.sources.base import printable

COLUMNS = ("split", "found", "good", "bad", "damaged files", "held out", "repeated images")

BAR = 30
"""Characters of the longest bar of a histogram."""


def show_report(title: str, report: DataReport) -> None:
    """Prints the counts of all splits, for each what is bad and what the captions are like, and
    then what repeats in all of them."""
    console, reports = Console(), report.splits
    table = Table(title=escape(title))
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "split" else "right")
    for split in reports:
        numbers = (split.found, split.good, split.bad, len(split.damaged), split.held_out)
        table.add_row(split.split, *(f"{n:,}" for n in (*numbers, split.repeated_images)))
    console.print(table)
    for line in [*(line for split in reports for line in _lines(split)), *_repeats(report)]:
        # Captions and names are a user's text, and no markup.
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _repeats(report: DataReport) -> list[str]:
    counts = report.counts
    lines = [
        "what repeats:",
        f"  pairs that repeat an image: {counts.repeated_images:,}",
        f"  pairs whose image looks like another: {counts.like_another:,}",
        f"  pairs that share a caption with another thing: {counts.equal_captions:,}",
    ]
    if counts.all_labels:
        lines.append("  captions are labels: equal ones are on both sides of the held-out part")
    elif counts.labels:
        pairs = f"{counts.labelled:,} pairs"
        lines.append(
            f"  captions of so many things that they are labels: {counts.labels:,}, {pairs}"
        )
    if counts.large_groups:
        lines.append(f"  groups too large to be held out: {counts.large_groups:,}")
    for number, keys in report.look_alikes:
        has_splits = len(report.splits) > 1
        names = ", ".join(f"{split}: {key}" if has_splits else key for split, _, key in keys)
        lines.append(f"  {number:,} look alike: {names}{', ...' if number > len(keys) else ''}")
    return lines


def _bars(title: str, histogram: Mapping[str, int]) -> list[str]:
    most = max(histogram.values(), default=1)
    width = max(map(len, histogram), default=0)
    return [
        f"  {title} {name:>{width}} {'#' * -(-BAR * number // most)} {number:,}"
        for name, number in histogram.items()
    ]


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
    leaks = report.in_other_splits
    if any(leaks.values()):
        lines.append(
            f"  pairs with something of another split: the same image {leaks['image']:,},"
            f" one that looks alike {leaks['alike']:,}, the same caption {leaks['caption']:,}"
        )
    if report.good:
        captions, distinct = report.texts.total(), len(report.texts)
        lines.append(f"  captions: {captions:,}, of which {distinct:,} are distinct")
        lines.append(f"  tokens of a caption: {_figures(quantiles(report.lengths))}")
        lines += _bars("tokens", histogram(report.lengths))
        lines.append(f"  captions cut at the context: {report.cut:,}")
        lines.append(f"  shorter side of an image: {_figures(quantiles(report.sides))}")
        lines += _bars("pixels", histogram(report.sides))
        repeated = [(text, n) for text, n in report.texts.most_common(EXAMPLES) if n > 1]
        lines += [f"  repeats {n:,} times: {_short(text)}" for text, n in repeated]
        lines += [f"  {key}: {_short(' | '.join(texts))}" for key, texts in report.examples]
    return lines


def _figures(values: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {value:,}" for name, value in values.items())


def _short(text: str) -> str:
    text = printable(" ".join(text.split()))
    return text if len(text) <= 100 else f"{text[:97]}..."
