"""The page's drawings as numbers: where their parts are, in the units of an SVG. The template draws
them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serving.report.concept_names import ConceptNames
from serving.report.cooccurrence import Cooccurrence
from serving.report.report import ActiveCounts, ConceptTable

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 72, 32, 12, 44
"""Margins, which hold the labels."""
MAX_BARS = 48
MIN_BAR_SLOTS = 8
"""The axis has space for this many bars, so that a few bars are not drawn wide."""
MAX_POINTS = 120
CELL_SIDE = 15
LABEL_WIDTH = 150
"""Space for the names beside the map of pairs."""
FULL_COLOUR_BITS = 3.0
"""A cell of the map has its full colour from here on: 3 bits are a lift of 8."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A label of an axis, and where it stands."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class ChartMark:
    """A bar, a point or a cell. `title` appears beside the pointer."""

    x: float
    y: float
    title: str
    width: float = 0.0
    height: float = 0.0
    strength: float = 1.0
    """The colour, in [-1, 1]."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Bars or points over two axes."""

    marks: list[ChartMark]
    across: list[Tick]
    up: list[Tick]
    label_across: str
    label_up: str
    band: tuple[float, float] | None = None
    """The interval of x that holds most rows."""
    line: float | None = None
    """The x of the median."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def histogram(active: ActiveCounts) -> Chart:
    """Rows by their number of active concepts."""
    rows = np.array(active.rows)
    used = np.flatnonzero(rows)
    low, high = (int(used[0]), int(used[-1])) if len(used) else (0, 0)
    step = math.ceil((high - low + 1) / MAX_BARS)
    starts = range(low, high + 1, step)
    counts = [int(rows[start : start + step].sum()) for start in starts]
    most, total = max([1, *counts]), max(1, int(rows.sum()))
    end = low + step * max(len(starts), MIN_BAR_SLOTS)

    def x(value: float) -> float:
        return _between(LEFT, WIDTH - RIGHT, (value - low) / (end - low))

    def y(value: float) -> float:
        return _between(HEIGHT - BOTTOM, TOP, value / most)

    marks = [
        ChartMark(
            x=x(start) + 0.5,
            y=y(count),
            width=x(start + step) - x(start) - 1,
            height=y(0) - y(count),
            title=f"{_span(start, step)}: {count:,} rows ({count / total:.1%})",
        )
        for start, count in zip(starts, counts, strict=True)
    ]
    return Chart(
        marks=marks,
        # A bar of one count is labelled at its middle, wider ones at their edges.
        across=[Tick(at=x(v + (step == 1) / 2), label=f"{v:,}") for v in _round_numbers(low, high)],
        up=[Tick(at=y(v), label=_number(v)) for v in _round_numbers(0, most)],
        label_across="active concepts",
        label_up="rows",
        band=(x(active.p5), x(active.p95 + 1)),
        line=x(active.median + 0.5),
    )


def ranks(concepts: ConceptTable, rows: int) -> Chart:
    """The share of rows on which concepts fire, by their rank; both axes logarithmic."""
    count = len(concepts.id)
    drawn = np.unique(np.geomspace(1, max(count, 1), MAX_POINTS).round().astype(int))[:count]
    shares = [concepts.rows[rank - 1] / rows for rank in drawn]
    across = max(1, math.ceil(math.log10(max(count, 1))))
    down = min(-1, math.floor(math.log10(min(shares, default=1.0))))

    def x(rank: float) -> float:
        return _between(LEFT, WIDTH - RIGHT, math.log10(rank) / across)

    def y(share: float) -> float:
        return _between(TOP, HEIGHT - BOTTOM, math.log10(share) / down)

    marks = [
        ChartMark(
            x=x(rank), y=y(share), title=f"{rank:,}. {concepts.name[rank - 1]}: {100 * share:.3g}%"
        )
        for rank, share in zip(drawn.tolist(), shares, strict=True)
    ]
    return Chart(
        marks=marks,
        across=[Tick(at=x(10**power), label=f"{10**power:,}") for power in range(across + 1)],
        up=[Tick(at=y(10**power), label=f"{10.0 ** (power + 2):g}%") for power in range(down, 1)],
        label_across="rank of the concept",
        label_up="share of rows",
    )


@dataclass(frozen=True, kw_only=True)
class PairMap:
    """A triangle of cells: each concept has a row and a column."""

    cells: list[ChartMark]
    rows: list[Tick]
    columns: list[Tick]
    side: int
    """The width and height of the drawing."""
    start: int
    """The x at which the cells begin."""
    cell: int = CELL_SIDE


def pair_map(cooccurrence: Cooccurrence, names: ConceptNames) -> PairMap:
    """How much more, or less, often than by chance two concepts fire together."""
    labels = [names[concept] for concept in cooccurrence.concepts.tolist()]
    strength = np.clip(cooccurrence.information / FULL_COLOUR_BITS, -1, 1)
    cells = [
        ChartMark(
            x=LABEL_WIDTH + column * CELL_SIDE,
            y=row * CELL_SIDE,
            strength=round(float(strength[row, column]), 2),
            title=_pair_title(cooccurrence, labels, row, column),
        )
        for row in range(len(labels))
        for column in range(row)
    ]
    middles = [CELL_SIDE * (number + 0.5) for number in range(len(labels))]
    return PairMap(
        cells=cells,
        rows=[Tick(at=at, label=name) for at, name in zip(middles, labels, strict=True)][1:],
        columns=[Tick(at=LABEL_WIDTH + at, label=n) for at, n in zip(middles, labels, strict=True)][
            :-1
        ],
        side=LABEL_WIDTH + CELL_SIDE * len(labels),
        start=LABEL_WIDTH,
    )


def _pair_title(cooccurrence: Cooccurrence, labels: Sequence[str], row: int, column: int) -> str:
    both, lift = cooccurrence.rows[row, column], cooccurrence.lift[row, column]
    jaccard = cooccurrence.jaccard[row, column]
    return (
        f"{labels[row]} + {labels[column]}: {both:,} rows, lift {lift:.3g}, Jaccard {jaccard:.2f}"
    )


def _between(start: float, end: float, share: float) -> float:
    return round(start + (end - start) * share, 1)


def _span(start: int, step: int) -> str:
    return f"{start:,}" if step == 1 else f"{start:,} to {start + step - 1:,}"


def _number(value: int) -> str:
    return f"{value / 10**6:g}M" if value >= 10**6 else f"{value:,}"


def _round_numbers(low: int, high: int) -> list[int]:
    """At most six round numbers in a range."""
    power = 10 ** max(0, math.floor(math.log10(max(high - low, 1))) - 1)
    step = next(s * power for s in (1, 2, 5, 10, 20, 50) if (high - low) / (s * power) <= 5)
    return list(range(-(-low // step) * step, high + 1, step))
