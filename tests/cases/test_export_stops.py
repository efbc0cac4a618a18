"""A stop of an export is a stop of all its processes, and long work shows that it goes on."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bundle.progress import show_progress
from serving.export.runners import RUNNERS
from tests.serving.export.command import options, run
from tests.serving.export.image_folders import folder

STOPS = {signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGKILL: -signal.SIGKILL}
"""What ends an export, and the exit code that says so."""
END_S = 10.0
"""Time in which all processes of an export must have ended."""
SLOW = {"ray"}
"""Runners that take a quarter of a minute to start."""


@pytest.fixture(scope="module")
def many_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More than an export takes before it is stopped."""
    return folder(tmp_path_factory.mktemp("stops") / "images", 2000)


@pytest.mark.kind("K9")
@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.name)
@pytest.mark.parametrize(
    "runner",
    [
        pytest.param(name, marks=pytest.mark.soak) if name in SLOW else name
        for name in RUNNERS.names
    ],
)
def test_no_process_outlives_an_export_that_is_stopped(
    runner: str, stop: signal.Signals, many_images: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "-m", "serving.cli.main", "export", many_images, output]
    command += [*options(tiny_bundle), "--runner", runner]
    command += [] if runner == "local" else ["--workers", 2]
    with (tmp_path / "printed").open("w+") as printed:
        process = subprocess.Popen(list(map(str, command)), stderr=printed)
        while process.poll() is None and not list(output.glob("receipts/*.json")):
            time.sleep(0.01)
        workers = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if runner not in SLOW or "_Actor" in " ".join(child.cmdline())
        ]
        assert workers
        process.send_signal(stop)
        assert process.wait(END_S) == STOPS[stop]
        _, alive = psutil.wait_procs(workers, END_S)
        assert alive == []
        printed.seek(0)
        told = printed.read()
        assert "Traceback" not in told
        if stop is signal.SIGTERM:
            reported = r"\d+" if runner in SLOW else r"[1-9]\d*"
            said = rf"^stopped at {reported} of 2,000 entries[.] Run the same command again: "
            assert re.search(said, told, re.MULTILINE), told


@pytest.mark.kind("K12")
def test_without_a_terminal_a_line_says_now_and_then_how_far_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also while one step takes long, and where nobody knows how much there is."""
    with show_progress("exporting", 2000, "rows", done=24, interval=0.01) as advance:
        advance(1000, "480/s")
        advance(0)  # keeps the note
        lines = ""
        while lines.count("\n") < 2:
            lines += capsys.readouterr().err
    assert lines.startswith("exporting: 1,024 of 2,000 rows, 480/s, 0 s, about 0 s left\n")
    with show_progress("listing", None, interval=0.01):
        while not (line := capsys.readouterr().err):
            time.sleep(0.01)
    assert line.startswith("listing: 0 s\n")


@pytest.mark.kind("K4")
@pytest.mark.parametrize(
    ("option", "value", "bound"),
    [
        ("--workers", "5000", "1<=x<=1024"),
        ("--rows", "0", "1<=x<=100000"),
        ("--rows", "100000000000000000000", "1<=x<=100000"),
        ("--rows", "1e20", "not a valid integer"),
        ("--top", "100000", "0<=x<=1000"),
        ("--batch", "100000", "1<=x<=1024"),
        ("--cores", "100000", "0<=x<=1024"),
        ("--decoders", "100000", "0<=x<=256"),
    ],
)
def test_a_number_beyond_its_bounds_is_refused_by_name(
    option: str, value: str, bound: str, tmp_path: Path
) -> None:
    printed = run(tmp_path, tmp_path / "out", option, value, code=2)
    assert f"'{option}'" in printed
    assert bound in printed
    assert not (tmp_path / "out").exists()
