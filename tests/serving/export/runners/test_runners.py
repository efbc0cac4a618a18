"""Which runner makes an export, and on how many cores."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from pathlib import Path
from typing import Any, Self

import pytest

from serving.engines.base import available_cores
from serving.export.runners import RUNNERS, default_runner, local_runner
from serving.export.runners.process_runner import cuda_device
from tests.serving.export.command import files, options, run


def test_several_workers_are_processes_unless_a_runner_is_named() -> None:
    assert default_runner(1) == "local"
    assert default_runner(2) == "processes"


def test_workers_share_the_cores_of_this_machine() -> None:
    cores = available_cores()
    assert RUNNERS.load("local").default_cores(1) == cores
    assert RUNNERS.load("processes").default_cores(1) == cores
    assert RUNNERS.load("processes").default_cores(2 * cores) == 1
    assert RUNNERS.load("ray").default_cores(1) == 1


@pytest.mark.parametrize(("visible", "devices"), [("", "0 1 2"), ("3,5", "3 5 3")])
def test_workers_take_the_visible_devices_in_turn(visible: str, devices: str) -> None:
    environment = {"CUDA_VISIBLE_DEVICES": visible}
    assert [cuda_device(rank, environment) for rank in range(3)] == devices.split()


def test_a_named_runner_gives_the_same_bytes(
    images: Path, tiny_bundle: Path, whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "one-process"
    run(images, output, *options(tiny_bundle), "--dense", "--runner", "processes")
    assert files(output) == files(whole)


def test_the_local_runner_has_one_worker(images: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    arguments = ["--runner", "local", "--workers", 2, *options(tiny_bundle)]
    assert run(images, tmp_path / "out", *arguments, code=1) == (
        "Error: --workers: the runner local has one; the runner processes has several\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("error", "lines"), [(SystemExit, 0), (ValueError, 1)])
def test_a_signal_that_comes_in_some_task_is_not_reported_as_an_error(
    error: type[BaseException],
    lines: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Worker(contextlib.nullcontext[Any]):
        async def __aenter__(self) -> Self:
            return self

        async def run(self, *_: object) -> None:
            async def task() -> None:
                raise error

            asyncio.get_running_loop().create_task(task())
            await asyncio.sleep(0.01)

    monkeypatch.setattr(local_runner, "ExportWorker", lambda *_: Worker())
    unused: Any = None
    with contextlib.suppress(SystemExit):
        local_runner.LocalRunner().run(unused, unused, (), unused)
    gc.collect()
    assert len(caplog.records) == lines
