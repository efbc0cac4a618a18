"""All numbers of a report on dense vectors, which have no concepts; page.py shows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.export.export_reader import ExportReader
from serving.export.inputs.base import Input
from serving.export.verify_export import TrackProgress
from serving.report.dense_statistics import NEAR_DUPLICATE, DenseStatistics, RowPair
from serving.report.examples import Example, load_examples, not_shown
from serving.report.report import ReportSummary, check_modality, summary_of
from serving.report.statistics import QuarantineReason, count_reasons

PAIRS = 30
"""Pairs of near rows that are shown."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How numbers of rows are spread."""

    mean: float
    p5: float
    median: float
    p95: float
    edges: list[float]
    """Of the bars of a histogram, one more than `counts`."""
    counts: list[int]

    @classmethod
    def of(cls, values: NDArray[np.floating] | NDArray[np.unsignedinteger]) -> Spread | None:
        """None where there are no values."""
        if not len(values):
            return None
        p5, median, p95 = np.percentile(values, [5, 50, 95]).tolist()
        counts, edges = np.histogram(values, bins=min(40, max(8, len(values))))
        return cls(
            mean=float(values.mean(dtype=np.float64)),
            p5=p5,
            median=median,
            p95=p95,
            edges=edges.tolist(),
            counts=counts.tolist(),
        )


@dataclass(frozen=True, kw_only=True)
class DenseReport:
    """What a report says about an export of dense vectors."""

    summary: ReportSummary
    width: int
    """D."""
    norms: Spread | None
    """Of the vectors as the model gives them."""
    tokens: Spread | None
    """Of texts; None for images."""
    read: dict[str, int]
    """Rows by what was not read of them."""
    sampled: int
    """Rows among which neighbours were looked for."""
    nearest: Spread | None
    """The cosine of each of these rows with the one nearest to it."""
    near_duplicates: int
    """How many of these rows have a neighbour of NEAR_DUPLICATE or more."""
    pairs: list[RowPair]
    """The nearest pairs."""
    examples: dict[int, Example]
    """Examples by the numbers of their rows."""
    quarantine: list[QuarantineReason]

    @property
    def not_shown(self) -> str:
        """How many examples are not shown, and why; empty when all are."""
        return not_shown(self.examples.values())

    @classmethod
    def of(
        cls, export: ExportReader, track: TrackProgress, source: Input | None = None
    ) -> DenseReport:
        """Reads an export a few times, with a batch of rows in memory at a time. `source` is the
        input that it was made from, if its images or texts are to be shown.

        Raises ExportError, or InputError for another input.
        """
        check_modality(export, source)
        statistics = DenseStatistics.of(export, track)
        nearest, pairs = statistics.neighbours(PAIRS)
        rows = [row for pair in pairs for row in (pair.one, pair.other)]
        return cls(
            summary=summary_of(export),
            width=statistics.width,
            norms=Spread.of(statistics.norms),
            tokens=Spread.of(statistics.tokens),
            read=statistics.read,
            sampled=len(nearest),
            nearest=Spread.of(nearest),
            near_duplicates=int((nearest >= NEAR_DUPLICATE).sum()),
            pairs=pairs,
            examples=load_examples(export, rows, source, track),
            quarantine=count_reasons(export, track),
        )
