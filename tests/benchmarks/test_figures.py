"""What benchmarks make of raw measurements, and what they send."""

from __future__ import annotations

import pytest
from google.protobuf import json_format

from benchmarks.clip_models import GEOMETRIES
from benchmarks.engines import flops, shares
from benchmarks.http2_calls import Call
from benchmarks.latency import at_share, step_of
from benchmarks.outside_python import calls_data, report_figures
from sparseclip.v1.embedding_pb2 import EmbedRequest


@pytest.mark.parametrize(("model", "published"), [("vit_b32", 4.4), ("vit_l14", 81.1)])
def test_operations_by_formula_are_twice_the_published_multiply_adds(
    model: str, published: float
) -> None:
    assert flops(GEOMETRIES[model], concepts=0) / 2e9 == pytest.approx(published, rel=0.02)


def test_a_share_of_the_peak_is_taken_in_the_same_precision() -> None:
    raw = {
        "images_per_second": {"a:bf16": {8: [10.0, 20.0]}, "b:fp8": {8: [1.0, 1.0]}},
        "peak_gigaflops": {"fp32": [1.0, 1.0], "bf16": [100.0, 400.0]},
    }
    assert shares({"raw": raw}, 5e9) == {"a:bf16": {8: 0.375}}


def test_a_late_or_refused_call_is_not_answered_in_time() -> None:
    calls = [
        Call(0.0, 0.1, 0.2, "OK"),
        Call(1.0, 1.0, 7.0, "OK"),
        Call(2.0, 2.0, 2.1, "refused"),
        Call(3.0, 3.0, 3.4, "OK"),
    ]
    step = step_of(calls, rate=1.0)
    assert (step["answered_in_time"], step["refused"]) == (0.5, 1)
    assert step["p50_ms"] == pytest.approx(400.0)  # counted from when the call was due


def test_shares_of_few_values() -> None:
    assert at_share([], 0.5) is None
    assert at_share([1.0, 2.0], 0.95) == 2.0


def test_ghz_sends_what_the_contract_takes() -> None:
    calls = [json_format.ParseDict(call, EmbedRequest()) for call in calls_data([b"a", b"\xff\0"])]
    assert [call.inputs[0].image for call in calls] == [b"a", b"\xff\0"]


def test_figures_of_ghz_are_refused_when_a_call_failed() -> None:
    report = {
        "rps": 7.5,
        "latencyDistribution": [
            {"percentage": 50, "latency": 2_500_000},
            {"percentage": 90, "latency": 9_000_000},
        ],
        "statusCodeDistribution": {"OK": 3},
    }
    assert report_figures(report) == (7.5, 2.5)
    with pytest.raises(SystemExit, match="Unavailable"):
        report_figures(report | {"statusCodeDistribution": {"OK": 3, "Unavailable": 1}})
