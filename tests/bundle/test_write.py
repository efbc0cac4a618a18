"""Writing a version: all or nothing."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bundle.atomic import staging_directory
from bundle.manifest import Manifest
from bundle.store import Bundle, BundleError, open_bundle, vacant_version, write_bundle
from bundle.verify import MANIFEST

LEFT, LINK = ".sparseclip-writing-ab1_cd2e", ".sparseclip-writing-ab1_cd2f"
"""Names as `staging_directory` gives them."""


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A version directory of its own; its parent has CURRENT."""
    shutil.copytree(tiny_bundle.parent, tmp_path / "tiny")
    return tmp_path / "tiny" / tiny_bundle.name


def filler(source: Path) -> Callable[[Path], None]:
    """Fills a directory with another bundle's files."""

    def fill(target: Path) -> None:
        shutil.copytree(source, target, dirs_exist_ok=True)
        (target / MANIFEST).unlink()

    return fill


def rename(opened: Bundle, **fields: str) -> Manifest:
    return dataclasses.replace(opened.manifest, files={}, **fields)


def test_who_may_read_a_version_is_not_the_fillers_choice(copy: Path) -> None:
    opened = open_bundle(copy)

    def private(target: Path) -> None:
        filler(copy)(target)
        target.chmod(0o700)

    target = write_bundle(copy.parent.parent, rename(opened, version="2"), private)
    mask = os.umask(0)
    os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o777 & ~mask


def test_versions_are_written_beside_each_other(copy: Path) -> None:
    models = copy.parent.parent
    opened = open_bundle(copy)
    target = write_bundle(models, rename(opened, version="2"), filler(copy))
    assert target == models / "tiny" / "2"
    assert open_bundle(models / "tiny").root == target
    assert (models / "tiny" / "CURRENT").read_text() == "2\n"
    assert sorted(p.name for p in (models / "tiny").iterdir()) == ["1", "2", "CURRENT"]
    assert open_bundle(copy).manifest.files == open_bundle(target).manifest.files
    with pytest.raises(BundleError, match="^tiny/2: exists"):
        write_bundle(models, rename(opened, version="2"), filler(copy))
    for fields in ({"version": "../3"}, {"name": "a/b"}, {"version": ""}, {"name": ".x"}):
        with pytest.raises(BundleError, match="letters, digits"):
            write_bundle(models, rename(opened, **fields), filler(copy))


@pytest.mark.parametrize("fault", ["raises", "incomplete", "link"])
@pytest.mark.parametrize("name", ["tiny", "new"])
def test_a_failed_write_leaves_nothing(copy: Path, tmp_path: Path, fault: str, name: str) -> None:
    def fill(target: Path) -> None:
        filler(copy)(target)
        if fault == "raises":
            raise OSError(28, "No space left on device")
        (target / "image.onnx").unlink()
        if fault == "link":
            (target / "image.onnx").symlink_to(copy / "image.onnx")

    before = sorted(tmp_path.rglob("*"))
    message = f"^{name}/2: cannot be written: No space left" if fault == "raises" else "image.onnx"
    with pytest.raises(BundleError, match=message):
        write_bundle(tmp_path, rename(open_bundle(copy), name=name, version="2"), fill)
    assert sorted(tmp_path.rglob("*")) == before
    assert open_bundle(copy.parent).root == copy


def test_of_two_writers_of_one_version_the_slower_is_refused(copy: Path) -> None:
    models, manifest = copy.parent.parent, rename(open_bundle(copy), version="2")

    def fill(target: Path) -> None:
        filler(copy)(target)
        write_bundle(models, manifest, filler(copy))

    with pytest.raises(BundleError, match="^tiny/2: exists"):
        write_bundle(models, manifest, fill)
    assert open_bundle(models / "tiny" / "2").manifest.version == "2"


def test_a_place_that_takes_no_folder_is_refused_before_the_work(copy: Path) -> None:
    for models in (copy / "manifest.json", copy / "manifest.json" / "below"):
        with pytest.raises(BundleError, match="^x/1: its folder cannot be written to"):
            vacant_version(models, "x", "1")


@contextmanager
def writer(version: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has begun to write version `name`, and goes on when told a line."""
    program = (
        "import dataclasses, pathlib, shutil, sys; from bundle.store import *\n"
        "root = pathlib.Path(sys.argv[1]); opened = open_bundle(root)\n"
        "def fill(target):\n"
        "    (target / 'image.onnx').write_bytes(b'half'); print('filling', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    [shutil.copy(opened.file(n), target / n) for n in opened.manifest.files]\n"
        "manifest = dataclasses.replace(opened.manifest, version=sys.argv[2])\n"
        "write_bundle(root.parents[1], manifest, fill)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(version), name],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "filling\n"
        try:
            yield child
        finally:
            child.kill()


def hidden(model: Path) -> list[str]:
    return [p.name for p in model.iterdir() if p.name.startswith(".")]


def test_a_killed_write_leaves_the_current_version(copy: Path) -> None:
    with writer(copy, "2") as child:
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=30)
    assert open_bundle(copy.parent).root == copy
    assert len(hidden(copy.parent)) == 1
    target = write_bundle(copy.parents[1], rename(open_bundle(copy), version="2"), filler(copy))
    assert open_bundle(copy.parent).root == target
    assert hidden(copy.parent) == []


def test_a_writer_at_work_is_left_alone(copy: Path) -> None:
    models = copy.parents[1]
    with writer(copy, "2") as child:
        write_bundle(models, rename(open_bundle(copy), version="3"), filler(copy))
        assert len(hidden(copy.parent)) == 1
        child.communicate("\n", timeout=60)
        assert child.returncode == 0
    assert open_bundle(copy.parent).root == models / "tiny" / "2"
    assert open_bundle(models / "tiny" / "3").manifest.version == "3"
    assert hidden(copy.parent) == []


def test_only_folders_of_writers_are_swept(copy: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    own = [".hidden", ".sparseclip-writing-notes", ".writing-notes_1", "sparseclip-writing-notes_1"]
    for name in own:
        (copy.parent / name).mkdir()
        (copy.parent / name / "file").touch()
    (copy.parent / LINK).symlink_to(kept)
    (copy.parent / LEFT / "2").mkdir(parents=True)
    write_bundle(copy.parents[1], rename(open_bundle(copy), version="2"), filler(copy))
    assert (kept / "file").exists()
    assert sorted(hidden(copy.parent)) == sorted([*own[:3], LINK])
    assert all((copy.parent / name / "file").exists() for name in own)


def test_a_sweeper_that_is_quicker_costs_one_more_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, taken = fcntl.flock, 0

    def flock(descriptor: int, how: int) -> None:
        nonlocal taken
        taken += 1
        if taken == 1:  # it came between the folder and its lock, and is done
            [staging] = tmp_path.iterdir()
            staging.rmdir()
        elif taken == 2:  # it holds the lock
            raise BlockingIOError
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with staging_directory(tmp_path) as staging:
        assert taken == 3
        assert list(staging.iterdir()) == []


def test_without_locks_nothing_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", flock)
    (tmp_path / LEFT).mkdir()
    with staging_directory(tmp_path) as staging:
        assert staging.is_dir()
    assert hidden(tmp_path) == [LEFT]
