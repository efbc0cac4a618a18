"""What workers report adds up to rates, shares of time and the busiest stage."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.export import progress
from serving.export.progress import STAGES, RunProgress, StageTime, StageTimer, WorkerProgress


def shard(worker: str, seconds: float, *, kept: bool = False, entries: int = 10) -> WorkerProgress:
    """A shard of a worker whose model has been busy that long."""
    stages = {stage: StageTime(seconds=0.0, workers=2) for stage in STAGES}
    stages["model"] = StageTime(seconds=seconds, workers=1)
    return WorkerProgress(worker=worker, entries=entries, kept=kept, stages=stages)


def test_reports_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    run = RunProgress()
    clock[0] += 10
    run.add(shard("a", 1.0, kept=True))
    run.add(shard("a", 4.0))
    run.add(shard("b", 8.0, entries=30))
    assert run.entries == 40
    assert run.rate == pytest.approx(4.0)
    # The last report of each worker holds all of its time: 4 and 8 seconds of two times 10.
    assert run.busy == pytest.approx({"read": 0, "decode": 0, "model": 0.6, "write": 0})
    assert run.bottleneck == "model"
    run.add(shard("b", 1000.0))
    assert run.busy["model"] == 1.0


def test_a_report_travels_as_json() -> None:
    report = shard("host:1", 0.25, kept=True)
    assert WorkerProgress.from_json(report.to_json()) == report


def test_the_time_of_all_threads_counts() -> None:
    timer = StageTimer(dict.fromkeys(STAGES, 4))

    def work(_: int) -> None:
        with timer.busy("read"):
            time.sleep(0.05)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert timer.stages["read"].seconds >= 4 * 0.05
    assert timer.stages["read"].workers == 4
    assert timer.stages["write"].seconds == 0
