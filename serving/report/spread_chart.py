"""The histogram of numbers that are no counts, such as norms and cosines."""

from __future__ import annotations

from serving.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, ChartMark, Tick
from serving.report.dense_report import Spread

TICKS = 5
"""Labels of an axis, beside that of its start."""


def spread_chart(spread: Spread, label: str) -> Chart:
    """Rows by a number, in bars of equal width."""
    low, high = spread.edges[0], spread.edges[-1]
    most, total = max([1, *spread.counts]), max(1, sum(spread.counts))

    def x(value: float) -> float:
        share = (value - low) / max(high - low, 1e-12)
        return round(LEFT + (WIDTH - RIGHT - LEFT) * share, 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / most, 1)

    starts, ends = spread.edges[:-1], spread.edges[1:]
    marks = [
        ChartMark(
            x=x(start) + 0.5,
            y=y(count),
            width=max(0.5, x(end) - x(start) - 1),
            height=y(0) - y(count),
            title=f"{start:.4g} to {end:.4g}: {count:,} rows ({count / total:.1%})",
        )
        for start, end, count in zip(starts, ends, spread.counts, strict=True)
    ]
    steps = [step / TICKS for step in range(TICKS + 1)]
    counts = sorted({round(most * step) for step in steps})
    return Chart(
        marks=marks,
        across=[Tick(at=x(v), label=f"{v:.4g}") for v in (low + (high - low) * s for s in steps)],
        up=[Tick(at=y(count), label=f"{count:,}") for count in counts],
        label_across=label,
        label_up="rows",
        band=(x(spread.p5), x(spread.p95)),
        line=x(spread.median),
    )
