"""A run's log: what a step writes, and what a resumed run removes before it repeats its steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.core.resume import TrainingError
from training.core.run_log import RunLog


def write(run: Path, steps: range, done: int, loss: float) -> None:
    log = RunLog(run, steps=10, done=done)
    for step in steps:
        log.advance()
        log.write(step, {"loss": loss}, {"loss": f"{loss}"})
    log.close()


def test_a_resumed_run_replaces_the_lines_after_its_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, range(1, 7), done=0, loss=1.0)
    write(tmp_path, range(5, 9), done=4, loss=2.0)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [
        *((step, 1.0) for step in range(1, 5)),
        *((step, 2.0) for step in range(5, 9)),
    ]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2


def test_a_line_that_was_cut_by_a_full_disk_goes(tmp_path: Path) -> None:
    write(tmp_path, range(1, 3), done=0, loss=1.0)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    write(tmp_path, range(3, 4), done=2, loss=2.0)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    first = RunLog(tmp_path, steps=10, done=0)
    first.write(1, {"loss": 1.0}, {})
    with pytest.raises(TrainingError, match="--output: another process trains in"):
        RunLog(tmp_path, steps=10, done=0)
    first.close()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1
    RunLog(tmp_path, steps=10, done=1).close()
