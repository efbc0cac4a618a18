"""What became of an item: its checked output and the time of each stage, or an error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from serving.core.coverage import NO_COVERAGE, ItemCoverage
from serving.core.errors import ServingError
from serving.engines.outputs import OutputRow


@dataclass(frozen=True, kw_only=True, slots=True)
class StageTimes:
    """Seconds that an item spent in each stage."""

    decode_s: float = 0.0
    queue_s: float = 0.0
    inference_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddedItem:
    """An item's checked output, and where its time went."""

    row: OutputRow
    times: StageTimes
    coverage: ItemCoverage = NO_COVERAGE
    """What the model read of the item."""


ItemResult = EmbeddedItem | ServingError


def slowest(results: Iterable[ItemResult]) -> StageTimes:
    """The longest time of any item, stage by stage; zeros when every item failed."""
    times = [result.times for result in results if isinstance(result, EmbeddedItem)]
    return StageTimes(
        decode_s=max((t.decode_s for t in times), default=0.0),
        queue_s=max((t.queue_s for t in times), default=0.0),
        inference_s=max((t.inference_s for t in times), default=0.0),
    )
