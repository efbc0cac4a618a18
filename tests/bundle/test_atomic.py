"""Files that are being written: whole or not there, and what a killed writer left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bundle import atomic
from bundle.atomic import draft_of, is_draft, sweep

KILLED = """
import os, signal, sys
from bundle.atomic import draft_of
with draft_of(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""

OWN = ("thesis.draft", ".thesis.draft", ".part-000001.parquet.4711.draft", ".sparseclip-1.draft")
"""Names that somebody else may give a file."""


def killed(target: Path) -> str:
    """The name of the draft that a killed writer of `target` leaves."""
    before = set(target.parent.iterdir())
    done = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert done.returncode == -9
    [draft] = set(target.parent.iterdir()) - before
    assert is_draft(draft.name)
    return draft.name


def test_only_drafts_that_nobody_writes_are_removed(tmp_path: Path) -> None:
    for name in OWN:
        (tmp_path / name).write_text("mine")
    below = tmp_path / "below"
    below.mkdir()
    names = {killed(tmp_path / "file"), killed(tmp_path / "file")}
    deeper = killed(below / "file")
    with draft_of(tmp_path / "written") as file:
        file.write(b"whole")
        sweep(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*OWN, "below", "written"}
    assert names.isdisjoint(left)
    assert (tmp_path / "written").read_bytes() == b"whole"
    assert [path.name for path in below.iterdir()] == [deeper]


def test_a_link_or_folder_of_such_a_name_stays(tmp_path: Path) -> None:
    name = f".sparseclip-{'0' * 16}.draft"
    (tmp_path / "mine").write_text("mine")
    (tmp_path / name).symlink_to(tmp_path / "mine")
    (tmp_path / name.replace("0", "1")).mkdir()
    before = sorted(tmp_path.iterdir())
    sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(TypeError), draft_of(target) as file:
        file.write("not bytes")  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_draft_that_is_swept_before_it_is_locked_costs_one_more_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, swept = atomic.fcntl.flock, []

    def slow(file: object, operation: int) -> None:
        if not swept:
            monkeypatch.setattr(atomic.fcntl, "flock", lock)
            swept.extend(tmp_path.iterdir())
            sweep(tmp_path)
        lock(file, operation)  # type: ignore[arg-type]

    monkeypatch.setattr(atomic.fcntl, "flock", slow)
    with draft_of(tmp_path / "file") as file:
        file.write(b"whole")
    assert len(swept) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"whole"
