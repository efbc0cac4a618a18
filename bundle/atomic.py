"""Files that are whole on the disk or not there.

They are written as drafts, under names that nothing else gives its files. A draft is held by a lock
of the operating system, which ends with the process however that ends. So a draft that nobody holds
was left by a process that was killed, and may be removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_NAME = re.compile(r"\.sparseclip-[0-9a-f]{16}\.draft")


def sync(path: Path | str) -> None:
    """Flushes a file, or a folder's list of names, to its disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_draft(name: str) -> bool:
    """Whether `name`, without its folder, is that of a draft."""
    return _NAME.fullmatch(name) is not None


@contextlib.contextmanager
def draft_of(path: Path | str) -> Iterator[BinaryIO]:
    """A stream whose bytes become the file `path` when the block ends well; else `path` stays as it
    was. Folders that are missing are made. Raises OSError."""
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, exist_ok=True)
    file = _held(folder)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file.name)
    sync(folder)


def _held(folder: str) -> BinaryIO:
    """A new draft, locked."""
    while True:
        name = os.path.join(folder, f".sparseclip-{secrets.token_hex(8)}.draft")
        file = open(name, "xb")  # noqa: SIM115  # the caller closes it
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # `sweep` was quicker, and is removing it
            file.close()
            continue
        except OSError:  # a file system without locks, on which `sweep` removes nothing
            return file
        if os.path.exists(name):
            return file
        file.close()  # `sweep` removed it before it was locked


def sweep(folder: Path | str) -> None:
    """Removes the drafts in this folder, not below it, that killed processes left."""
    try:
        names = [name for name in os.listdir(folder) if is_draft(name)]
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):  # it is gone, or is no file
            _remove(path)


def _remove(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError: it is being written
        os.unlink(path)
    finally:
        os.close(descriptor)
