"""Writing a version: all or nothing."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.manifest import Manifest
from bundle.store import Bundle, BundleError, open_bundle, write_bundle
from bundle.verify import REQUIRED


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A version directory of its own; its parent has CURRENT."""
    shutil.copytree(tiny_bundle.parent, tmp_path / "tiny")
    return tmp_path / "tiny" / tiny_bundle.name


def filler(source: Path) -> Callable[[Path], None]:
    """Fills a directory with another bundle's files."""

    def fill(target: Path) -> None:
        for name in REQUIRED:
            shutil.copy(source / name, target / name)

    return fill


def rename(opened: Bundle, **fields: str) -> Manifest:
    return dataclasses.replace(opened.manifest, files={}, **fields)


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
    with pytest.raises((OSError, BundleError)):
        write_bundle(tmp_path, rename(open_bundle(copy), name=name, version="2"), fill)
    assert sorted(tmp_path.rglob("*")) == before
    assert open_bundle(copy.parent).root == copy


def test_a_killed_write_leaves_the_current_version(copy: Path) -> None:
    program = (
        "import dataclasses, pathlib, sys, time; from bundle.store import *\n"
        "root = pathlib.Path(sys.argv[1]); manifest = open_bundle(root).manifest\n"
        "def fill(target):\n"
        "    (target / 'image.onnx').write_bytes(b'half'); print('filling', flush=True)\n"
        "    time.sleep(60)\n"
        "write_bundle(root.parents[1], dataclasses.replace(manifest, version='2'), fill)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(copy)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "filling\n"
    child.send_signal(signal.SIGKILL)
    child.wait(timeout=30)
    child.stdout.close()
    assert open_bundle(copy.parent).root == copy
    target = write_bundle(copy.parents[1], rename(open_bundle(copy), version="2"), filler(copy))
    assert open_bundle(copy.parent).root == target
