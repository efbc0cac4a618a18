"""Gauges and histograms that only the event loop changes: they need no lock, and cost next to
nothing. Several change with every image."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import HistogramMetricFamily


class Level:
    """What a gauge shows."""

    __slots__ = ("value",)

    def __init__(self, gauge: Gauge) -> None:
        self.value = 0
        gauge.set_function(lambda: self.value)

    def inc(self, change: int = 1) -> None:
        """Adds to the level."""
        self.value += change

    def __enter__(self) -> None:
        """Adds 1 until the block ends."""
        self.value += 1

    def __exit__(self, *_: object) -> None:
        self.value -= 1


class LoopHistogram:
    """The observations of one series."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Observations by bucket; the last one is above all bounds."""
        self.total = 0.0
        """The sum of all observations."""

    def observe(self, value: float) -> None:
        """Adds an observation."""
        self.counts[bisect.bisect_left(self._bounds, value)] += 1
        self.total += value


class HistogramSeries:
    """The series of one histogram, by their labels."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._text, self._labels, self._bounds = name, text, labels, bounds
        self._series: dict[tuple[str, ...], LoopHistogram] = {}
        registry.register(self)

    def labels(self, *values: str) -> LoopHistogram:
        """The series of these values, in the order of the labels."""
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = LoopHistogram(self._bounds)
        return series

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """For the registry: the name without observations."""
        yield HistogramMetricFamily(self._name, self._text, labels=self._labels)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """For the registry: what was observed so far."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for values, series in list(self._series.items()):
            counts = itertools.accumulate(series.counts)
            family.add_metric(values, list(zip(bounds, counts, strict=True)), series.total)
        yield family
