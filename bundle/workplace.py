"""The hidden folder in which a version is written before it gets its place and its name.

A writer holds its folder by a lock of the operating system, which ends with the process however
that ends. So a folder of such a name that nobody holds was left by a writer that was killed, and
the next one removes it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = ".sparseclip-writing-"
_NAME = re.compile(re.escape(PREFIX) + "[a-z0-9_]{8}")
"""A name that `tempfile.mkdtemp` makes of it, and nothing else gives its folders."""


@contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """An empty folder inside `folder`, there until the end of the block, whatever ends it.

    First removes those that killed writers left. A file system that has no locks is written to
    all the same, and never swept.
    """
    for path in folder.glob(f"{PREFIX}*"):
        if _NAME.fullmatch(path.name):
            _sweep(path)
    place, held = _take(folder)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(held)


def _take(folder: Path) -> tuple[Path, int]:
    """A new folder and the descriptor by which it is held."""
    while True:
        place = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
        held = os.open(place, os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # a sweeper was quicker, and is removing it
            os.close(held)
            continue
        except OSError:  # no locks here
            return place, held
        if _is_still(place, held):
            return place, held
        os.close(held)


def _sweep(path: Path) -> None:
    try:
        held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # not a folder, or gone
        return
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # somebody writes there, or there are no locks
        pass
    else:
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(held)


def _is_still(place: Path, held: int) -> bool:
    """Whether the path leads to what is held: a sweeper may have removed it before the lock."""
    try:
        return os.path.samestat(os.stat(place), os.fstat(held))
    except FileNotFoundError:
        return False
