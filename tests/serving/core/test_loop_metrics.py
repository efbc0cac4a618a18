"""Gauges and histograms without locks, beside those of the library."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest

from serving.core.loop_metrics import HistogramSeries, Level

BOUNDS = (0.0005, 0.5, 1, 30)


def test_a_histogram_is_exposed_as_the_librarys_own_is() -> None:
    ours, library = CollectorRegistry(), CollectorRegistry()
    series = HistogramSeries("stage_seconds", "Time.", ["graph", "stage"], BOUNDS, ours)
    expected = Histogram(
        "stage_seconds", "Time.", ["graph", "stage"], buckets=BOUNDS, registry=library
    )
    for value in (0.0, 0.0005, 0.0006, 0.5, 1.0, 1.5, 30.0, 31.0):
        for labels in (("image", "queue"), ("text", "decode")):
            series.labels(*labels).observe(value)
            expected.labels(*labels).observe(value)
    lines = generate_latest(library).decode().splitlines()
    assert generate_latest(ours).decode().splitlines() == [
        line for line in lines if "_created" not in line
    ]


def test_a_level_is_what_its_gauge_shows() -> None:
    registry = CollectorRegistry()
    level = Level(Gauge("calls", "Calls.", registry=registry))
    level.inc(3)
    with level:
        level.inc(-1)
        assert registry.get_sample_value("calls") == 3
    assert registry.get_sample_value("calls") == 2
