"""Where the parts of the page's drawings are, in the units of an SVG; the template draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serving.report.concept_names import Names
from serving.report.cooccurrence import Together
from serving.report.report import Active, Concepts

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 72, 32, 12, 44
"""Margins, for the labels."""
BARS, SLOTS = 48, 8
"""Bars at most, and places for them at least."""
POINTS = 120
CELL = 15
LABELS = 150
"""Room for the names of the map."""
STRONG = 3.0
"""Bits (a lift of 8) from which a cell of the map has its full colour."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A labelled place of an axis."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A bar, a point or a cell; `title` appears beside the pointer."""

    x: float
    y: float
    title: str
    width: float = 0.0
    height: float = 0.0
    strength: float = 1.0
    """In [-1, 1], for the colour."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Marks over two axes."""

    marks: list[Mark]
    across: list[Tick]
    up: list[Tick]
    label_across: str
    label_up: str
    band: tuple[float, float] | None = None
    """From x to x: where most rows are."""
    line: float | None = None
    """x of the median."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def histogram(active: Active) -> Chart:
    """Rows by their number of active concepts."""
    rows = np.array(active.rows)
    seen = np.flatnonzero(rows)
    low, high = (int(seen[0]), int(seen[-1])) if len(seen) else (0, 0)
    step = math.ceil((high - low + 1) / BARS)
    starts = range(low, high + 1, step)
    counts = [int(rows[start : start + step].sum()) for start in starts]
    most, total = max([1, *counts]), max(1, int(rows.sum()))
    end = low + step * max(len(starts), SLOTS)

    def x(value: float) -> float:
        return _between(LEFT, WIDTH - RIGHT, (value - low) / (end - low))

    def y(value: float) -> float:
        return _between(HEIGHT - BOTTOM, TOP, value / most)

    marks = [
        Mark(
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
        across=[Tick(at=x(v + (step == 1) / 2), label=f"{v:,}") for v in _round(low, high)],
        up=[Tick(at=y(v), label=_number(v)) for v in _round(0, most)],
        label_across="active concepts",
        label_up="rows",
        band=(x(active.p5), x(active.p95 + 1)),
        line=x(active.median + 0.5),
    )


def ranks(concepts: Concepts, rows: int) -> Chart:
    """The share of rows on which concepts fire, by their rank; both axes logarithmic."""
    count = len(concepts.id)
    chosen = np.unique(np.geomspace(1, max(count, 1), POINTS).round().astype(int))[:count]
    shares = [concepts.rows[rank - 1] / rows for rank in chosen]
    across = max(1, math.ceil(math.log10(max(count, 1))))
    down = min(-1, math.floor(math.log10(min(shares, default=1.0))))

    def x(rank: float) -> float:
        return _between(LEFT, WIDTH - RIGHT, math.log10(rank) / across)

    def y(share: float) -> float:
        return _between(TOP, HEIGHT - BOTTOM, math.log10(share) / down)

    marks = [
        Mark(
            x=x(rank), y=y(share), title=f"{rank:,}. {concepts.name[rank - 1]}: {100 * share:.3g}%"
        )
        for rank, share in zip(chosen.tolist(), shares, strict=True)
    ]
    return Chart(
        marks=marks,
        across=[Tick(at=x(10**power), label=f"{10**power:,}") for power in range(across + 1)],
        up=[Tick(at=y(10**power), label=f"{10.0 ** (power + 2):g}%") for power in range(down, 1)],
        label_across="rank of the concept",
        label_up="share of rows",
    )


@dataclass(frozen=True, kw_only=True)
class Map:
    """A triangle of cells, a row and a column a concept."""

    cells: list[Mark]
    rows: list[Tick]
    columns: list[Tick]
    side: int
    """Of the whole drawing."""
    start: int
    """Where the cells begin."""
    cell: int = CELL


def pair_map(together: Together, names: Names) -> Map:
    """How much more, or less, often than by chance two concepts fire together."""
    labels = [names[concept] for concept in together.concepts.tolist()]
    strength = np.clip(together.information / STRONG, -1, 1)
    cells = [
        Mark(
            x=LABELS + column * CELL,
            y=row * CELL,
            strength=round(float(strength[row, column]), 2),
            title=_told(together, labels, row, column),
        )
        for row in range(len(labels))
        for column in range(row)
    ]
    places = [CELL * (number + 0.5) for number in range(len(labels))]
    return Map(
        cells=cells,
        rows=[Tick(at=at, label=name) for at, name in zip(places, labels, strict=True)][1:],
        columns=[Tick(at=LABELS + at, label=n) for at, n in zip(places, labels, strict=True)][:-1],
        side=LABELS + CELL * len(labels),
        start=LABELS,
    )


def _told(together: Together, labels: Sequence[str], row: int, column: int) -> str:
    both, lift = together.rows[row, column], together.lift[row, column]
    jaccard = together.jaccard[row, column]
    return (
        f"{labels[row]} + {labels[column]}: {both:,} rows, lift {lift:.3g}, Jaccard {jaccard:.2f}"
    )


def _between(start: float, end: float, share: float) -> float:
    return round(start + (end - start) * share, 1)


def _span(start: int, step: int) -> str:
    return f"{start:,}" if step == 1 else f"{start:,} to {start + step - 1:,}"


def _number(value: int) -> str:
    return f"{value / 10**6:g}M" if value >= 10**6 else f"{value:,}"


def _round(low: int, high: int) -> list[int]:
    """At most six round numbers in a range."""
    power = 10 ** max(0, math.floor(math.log10(max(high - low, 1))) - 1)
    fits = (s * power for s in (1, 2, 5, 10, 20, 50) if (high - low) / (s * power) <= 5)
    step = next(fits)
    return list(range(-(-low // step) * step, high + 1, step))
