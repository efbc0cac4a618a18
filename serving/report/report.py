"""All numbers and names of a report; page.py shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.export.export_reader import ExportReader
from serving.export.inputs.base import Input, InputError
from serving.export.verify_export import TrackProgress
from serving.report.concept_names import ConceptNames
from serving.report.cooccurrence import Cooccurrence
from serving.report.examples import Example, load_examples, not_shown
from serving.report.selection import by_frequency, concepts_to_compare, concepts_to_show
from serving.report.statistics import QuarantineReason, Statistics, count_reasons


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """How much a report shows."""

    concepts: int = 48
    """Concepts that are shown with examples."""
    top: int = 8
    """Examples of each concept: the rows on which it is strongest."""
    mapped: int = 40
    """Concepts in the map of pairs."""
    compared: int = 256
    """Concepts among which pairs are counted."""
    pairs: int = 30
    """Pairs that are listed, those of the highest lift."""


@dataclass(frozen=True, kw_only=True)
class ReportSummary:
    """What was exported, and what of it is there. See ExportJob and ExportReader."""

    export: str
    """Where it is."""
    model: str
    runtime: str
    modality: str
    column: str
    changed: str
    whole: bool
    entries: int
    rows: int
    quarantined: int
    bytes: int
    shards: int
    """Finished shards."""
    planned: int
    """Shards of the whole export."""
    altered: list[int]


@dataclass(frozen=True, kw_only=True)
class ActiveCounts:
    """How many concepts are active on a row (L0)."""

    mean: float
    p5: int
    median: int
    p95: int
    cut: int
    """Rows on which more fired than the model's TopK kept."""
    rows: list[int]
    """Element n is the number of rows on which n concepts fired."""


@dataclass(frozen=True, kw_only=True)
class ConceptTable:
    """The concepts that fire, the most frequent first. Each column is a list."""

    total: int | None
    """C; None without the bundle."""
    id: list[int] = field(default_factory=list)
    name: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    """Rows on which the concept fires."""
    mean: list[float] = field(default_factory=list)
    """The mean of its values where it fires."""
    max: list[float] = field(default_factory=list)

    @property
    def dead(self) -> int | None:
        """How many concepts never fire; None when the total is not known."""
        return None if self.total is None else self.total - len(self.id)


@dataclass(frozen=True, kw_only=True)
class ConceptPair:
    """Two concepts that fire on the same rows."""

    one: int
    other: int
    rows: int
    """Rows on which both fire."""
    lift: float
    jaccard: float


@dataclass(frozen=True, kw_only=True)
class ConceptExamples:
    """A concept and the rows on which it is strongest."""

    concept: int
    examples: list[int]
    """Numbers of rows."""
    values: list[float]


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What a report says about an export."""

    summary: ReportSummary
    active: ActiveCounts
    concepts: ConceptTable
    compared: int
    """How many concepts, the most frequent ones, were searched for pairs."""
    support: int
    """Rows on which both concepts of a pair must fire for it to be listed."""
    pairs: list[ConceptPair]
    cooccurrence: Cooccurrence
    """The concepts of the map of pairs."""
    shown: list[ConceptExamples]
    examples: dict[int, Example]
    """Examples by the numbers of their rows."""
    quarantine: list[QuarantineReason]
    names: ConceptNames

    @property
    def not_shown(self) -> str:
        """How many examples are not shown, and why; empty when all are."""
        return not_shown(self.examples.values())

    @classmethod
    def of(
        cls,
        export: ExportReader,
        config: ReportConfig,
        track: TrackProgress,
        source: Input | None = None,
        bundle: Path | None = None,
    ) -> ExportReport:
        """Reads an export a few times, with a batch of rows in memory at a time. `source` is the
        input that it was made from, if its images or texts are to be shown.

        Raises ExportError, BundleError, or InputError for another input.
        """
        check_modality(export, source)
        names = ConceptNames.load(export, bundle, track)
        statistics = Statistics.of(export, config.top, track)
        compared = concepts_to_compare(statistics)[: config.compared]
        cooccurrence = Cooccurrence.count(export, compared, track)
        support = max(5, statistics.rows // 1000)
        shown = [
            _examples_of(concept, statistics)
            for concept in concepts_to_show(statistics, config.concepts)
        ]
        rows = [row for concept in shown for row in concept.examples]
        return cls(
            summary=summary_of(export),
            active=ActiveCounts(
                mean=statistics.mean_active,
                p5=statistics.percentile(5),
                median=statistics.percentile(50),
                p95=statistics.percentile(95),
                cut=statistics.cut,
                rows=statistics.active.tolist(),
            ),
            concepts=_concept_table(statistics, names),
            compared=len(compared),
            support=support,
            pairs=_top_pairs(cooccurrence, config.pairs, support),
            cooccurrence=cooccurrence.first(config.mapped).by_neighbours(),
            shown=shown,
            examples=load_examples(export, rows, source, track),
            quarantine=count_reasons(export, track),
            names=names,
        )


def check_modality(export: ExportReader, source: Input | None) -> None:
    """Raises InputError for an input of another modality than the export's."""
    modality = export.job.modality
    if source is not None and source.modality != modality:
        raise InputError(f"--input: holds {source.modality}s, the export is of {modality}s")


def summary_of(export: ExportReader) -> ReportSummary:
    """What was exported, and what of it is there."""
    return ReportSummary(
        export=export.output.path,
        model=export.job.model,
        runtime=export.job.runtime,
        modality=export.job.modality,
        column=export.job.column,
        changed=export.changed,
        whole=export.is_whole,
        entries=export.entries,
        rows=export.rows,
        quarantined=export.quarantined,
        bytes=export.size,
        shards=len(export.receipts),
        planned=export.planned,
        altered=export.altered,
    )


def _concept_table(statistics: Statistics, names: ConceptNames) -> ConceptTable:
    ids = by_frequency(statistics)
    return ConceptTable(
        total=names.total,
        id=ids.tolist(),
        name=[names[concept] for concept in ids.tolist()],
        rows=statistics.fired[ids].tolist(),
        mean=_five_digits(statistics.means[ids]),
        max=_five_digits(statistics.top_rows.values[ids, 0]),
    )


def _examples_of(concept: int, statistics: Statistics) -> ConceptExamples:
    rows = statistics.top_rows.of(concept)
    values = statistics.top_rows.values[concept, : len(rows)]
    return ConceptExamples(concept=concept, examples=rows.tolist(), values=_five_digits(values))


def _top_pairs(cooccurrence: Cooccurrence, count: int, support: int) -> list[ConceptPair]:
    lift, jaccard = cooccurrence.lift, cooccurrence.jaccard
    return [
        ConceptPair(
            one=int(cooccurrence.concepts[one]),
            other=int(cooccurrence.concepts[other]),
            rows=int(cooccurrence.rows[one, other]),
            lift=_five_digits([lift[one, other]])[0],
            jaccard=_five_digits([jaccard[one, other]])[0],
        )
        for one, other in cooccurrence.top_pairs(count, support)
    ]


def _five_digits(values: Sequence[float] | NDArray[np.floating]) -> list[float]:
    """Numbers with the five digits that a page needs."""
    return [float(f"{value:.5g}") for value in values]
