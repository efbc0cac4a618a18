"""All that a report says, as numbers and names; the page shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.export.inputs.base import Input, InputError
from serving.export.reader import Shards
from serving.export.verify import Watch
from serving.report.concept_names import Names
from serving.report.cooccurrence import Together
from serving.report.examples import Example, examples_of
from serving.report.quarantine import Reason, reasons_of
from serving.report.selection import by_frequency, clearest, compared
from serving.report.statistics import Statistics


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """How much is shown."""

    concepts: int = 48
    """Concepts with examples."""
    top: int = 8
    """Examples of each, the rows on which it is strongest."""
    mapped: int = 40
    """Concepts of the map of pairs."""
    compared: int = 256
    """Concepts among which pairs are counted."""
    pairs: int = 30
    """Of the highest lift."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What was exported."""

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
    planned: int
    altered: list[int]


@dataclass(frozen=True, kw_only=True)
class Active:
    """Active concepts of a row (L0)."""

    mean: float
    p5: int
    median: int
    p95: int
    cut: int
    """Rows on which more fired than the model's TopK kept."""
    rows: list[int]
    """By how many fired: none, one, two and so on."""


@dataclass(frozen=True, kw_only=True)
class Concepts:
    """Those that fire, the most frequent first, a list a column."""

    total: int | None
    """C; None where the bundle is not at hand."""
    id: list[int] = field(default_factory=list)
    name: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    """On which it fires."""
    mean: list[float] = field(default_factory=list)
    """Of its values where it fires."""
    max: list[float] = field(default_factory=list)

    @property
    def dead(self) -> int | None:
        """Concepts that never fire."""
        return None if self.total is None else self.total - len(self.id)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two concepts that fire on the same rows."""

    one: int
    other: int
    rows: int
    lift: float
    jaccard: float


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A concept and the rows on which it is strongest."""

    concept: int
    examples: list[int]
    """Numbers of rows."""
    values: list[float]


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole."""

    summary: Summary
    active: Active
    concepts: Concepts
    compared: int
    """Concepts among which the pairs were sought: the most frequent."""
    support: int
    """Rows that a pair needs to be listed."""
    pairs: list[Pair]
    together: Together
    """Of the concepts of the map."""
    shown: list[Shown]
    examples: dict[int, Example]
    """By number of row."""
    quarantine: list[Reason]
    names: Names

    @classmethod
    def of(
        cls,
        shards: Shards,
        config: ReportConfig,
        watch: Watch,
        source: Input | None = None,
        bundle: Path | None = None,
    ) -> Report:
        """Reads an export a few times, a batch of rows in memory at a time. Raises ExportError,
        BundleError, or InputError for a `source` that it cannot have come from."""
        job = shards.job
        if source is not None and source.modality != job.modality:
            raise InputError(f"--input: holds {source.modality}s, the export is of {job.modality}s")
        names = Names.of(shards, bundle, watch)
        found = Statistics.of(shards, config.top, watch)
        together = Together.of(shards, compared(found)[: config.compared], watch)
        support = max(5, found.rows // 1000)
        shown = [_shown(concept, found) for concept in clearest(found, config.concepts)]
        rows = [row for entry in shown for row in entry.examples]
        return cls(
            summary=_summary(shards),
            active=Active(
                mean=found.mean_active,
                p5=found.percentile(5),
                median=found.percentile(50),
                p95=found.percentile(95),
                cut=found.cut,
                rows=found.active.tolist(),
            ),
            concepts=_concepts(found, names),
            compared=len(together.concepts),
            support=support,
            pairs=_pairs(together, config.pairs, support),
            together=together.part(config.mapped).by_neighbours(),
            shown=shown,
            examples=examples_of(shards, rows, source, watch),
            quarantine=reasons_of(shards, watch),
            names=names,
        )


def _summary(shards: Shards) -> Summary:
    return Summary(
        model=shards.job.model,
        runtime=shards.job.runtime,
        modality=shards.job.modality,
        column=shards.job.column,
        changed=shards.changed,
        whole=shards.whole,
        entries=shards.job.entries,
        rows=shards.rows,
        quarantined=shards.quarantined,
        bytes=shards.size,
        shards=len(shards.receipts),
        planned=shards.planned,
        altered=shards.altered,
    )


def _concepts(found: Statistics, names: Names) -> Concepts:
    ids = by_frequency(found)
    return Concepts(
        total=names.total,
        id=ids.tolist(),
        name=[names[concept] for concept in ids.tolist()],
        rows=found.fired[ids].tolist(),
        mean=_short(found.means[ids]),
        max=_short(found.strongest.values[ids, 0]),
    )


def _shown(concept: int, found: Statistics) -> Shown:
    rows = found.strongest.of(concept)
    values = found.strongest.values[concept, : len(rows)]
    return Shown(concept=concept, examples=rows.tolist(), values=_short(values))


def _pairs(together: Together, count: int, support: int) -> list[Pair]:
    lift, jaccard = together.lift, together.jaccard
    return [
        Pair(
            one=int(together.concepts[one]),
            other=int(together.concepts[other]),
            rows=int(together.rows[one, other]),
            lift=_short([lift[one, other]])[0],
            jaccard=_short([jaccard[one, other]])[0],
        )
        for one, other in together.strongest_pairs(count, support)
    ]


def _short(values: Sequence[float] | NDArray[np.floating]) -> list[float]:
    """Five digits, all that a page needs."""
    return [float(f"{value:.5g}") for value in values]
