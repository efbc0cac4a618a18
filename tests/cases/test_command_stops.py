"""A command that is stopped, or whose reader leaves, ends at once and says what it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.paths import ROOT

END_S = 10.0
"""Time in which a stopped command must have ended."""

WORK_FOLDER = ".sparseclip-writing-"
"""How the names of folders begin that a command in work has."""

EMBED = [sys.executable, "-m", "serving.cli.main", "embed", "--text", "a dog", "--json"]


def environment(temporary: Path) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "protos")])
    return {**os.environ, "PYTHONPATH": path, "TMPDIR": str(temporary)}


@pytest.mark.kind("K9")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=lambda stop: stop.name)
def test_a_stop_while_the_bundle_is_opened(
    stop: signal.Signals, tiny_bundle: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [*EMBED, "--bundle", str(tiny_bundle)],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell starts what runs in its background deaf to SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None and not list(tmp_path.glob(f"{WORK_FOLDER}*")):
        time.sleep(0.005)
    process.send_signal(stop)
    output, errors = process.communicate(timeout=END_S)
    assert (process.returncode, output, errors.strip()) == (128 + stop, b"", b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.kind("K9")
@pytest.mark.parametrize("as_json", [True, False], ids=["json", "table"])
def test_a_reader_that_has_enough(as_json: bool, tiny_bundle: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*EMBED[: len(EMBED) - (not as_json)], "--bundle", str(tiny_bundle)],
            env=environment(tmp_path),
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.kind("K12")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_is_full_is_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*EMBED, "--bundle", str(tiny_bundle)],
            env=environment(tmp_path),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    message = "Error: the output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, message)


@pytest.mark.kind("K11")
def test_a_terminal_without_the_characters(tiny_bundle: Path, tmp_path: Path) -> None:
    """What a command that was killed before has left in the folder of temporary files goes."""
    left, own = tmp_path / f"{WORK_FOLDER}0123abcd", tmp_path / f"{WORK_FOLDER}notes"
    left.mkdir()
    own.mkdir()
    command = [*EMBED[:-1], "--bundle", str(tiny_bundle), "--text", "caf\u00e9 \U0001f431"]
    done = subprocess.run(
        command,
        env={**environment(tmp_path), "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"caf\\xe9 \\U0001f431" in done.stdout
    assert list(tmp_path.iterdir()) == [own]
