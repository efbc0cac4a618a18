"""Files and folders that are whole on the disk or not there.

They are written as drafts, under names that nothing else gives its files, and renamed last. A draft
is held by a lock of the operating system, which ends with the process however that ends. So a draft
that nobody holds was left by a process that was killed, and may be removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_NAME = re.compile(r"\.sparseclip-[0-9a-f]{16}\.draft")

_STAGING = ".sparseclip-writing-"
_STAGING_NAME = re.compile(re.escape(_STAGING) + "[a-z0-9_]{8}")
"""A name that nothing else gives its folders."""


def sync(path: Path | str) -> None:
    """Flushes a file, or a folder's list of names, to its disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Flushes a folder and all that is in and below it to its disk."""
    for folder, _, names in os.walk(root):
        for name in names:
            sync(Path(folder) / name)
        sync(Path(folder))


def is_draft(name: str) -> bool:
    """Whether `name`, without its folder, is that of a draft."""
    return _NAME.fullmatch(name) is not None


@contextlib.contextmanager
def draft_of(
    path: Path | str, drafts: Path | str | None = None, *, replace: bool = True
) -> Iterator[BinaryIO]:
    """A stream whose bytes become the file `path` when the block ends well; else `path` stays as it
    was. Folders that are missing are made.

    The draft is in the folder `drafts`, or beside the file. Raises OSError; FileExistsError when
    the file is there and not to be replaced.
    """
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, exist_ok=True)
    file = _held(_folder_of_drafts(folder, drafts))
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if replace:
                os.replace(file.name, path)
            else:
                _link(file.name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file.name)
    sync(folder)


def _link(name: str, path: Path | str) -> None:
    try:
        os.link(name, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.exists(path):
            raise FileExistsError(path) from None
        os.replace(name, path)


def _folder_of_drafts(folder: str, drafts: Path | str | None) -> str:
    if drafts is not None:
        os.makedirs(drafts, exist_ok=True)
        if os.stat(drafts).st_dev == os.stat(folder).st_dev:  # else it could not be renamed
            return str(drafts)
    return folder


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


def write_file(path: Path | str, content: bytes) -> None:
    """Writes a file whole: killed at any moment, it is as it was or as it shall be."""
    with draft_of(path) as file:
        file.write(content)


@contextlib.contextmanager
def staging_directory(folder: Path) -> Iterator[Path]:
    """An empty folder inside `folder`, for its owner alone, there until the end of the block,
    whatever ends it.

    What is written into it is renamed to its place in `folder`. Folders that killed writers left
    are removed first. A file system without locks is written to all the same, and never swept.
    """
    for path in folder.glob(f"{_STAGING}*"):
        if _STAGING_NAME.fullmatch(path.name):
            _remove_staging(path)
    with contextlib.ExitStack() as stack:
        yield _held_directory(folder, stack)


def work_directory() -> contextlib.AbstractContextManager[Path]:
    """A staging directory in the system's folder of temporary files, for what is never renamed.
    Unlike one of `tempfile`, it does not stay for ever when the process is killed."""
    return staging_directory(Path(tempfile.gettempdir()))


def replace_directory(draft: Path, target: Path) -> None:
    """Flushes the folder `draft` to its disk and gives it the name `target`, in place of a folder
    that has it."""
    sync_tree(draft)
    shutil.rmtree(target, ignore_errors=True)
    os.rename(draft, target)
    sync(target.parent)


def _held_directory(folder: Path, stack: contextlib.ExitStack) -> Path:
    """A new staging directory, held by the lock of an open descriptor. `stack` ends both."""
    while True:
        staging = folder / f"{_STAGING}{secrets.token_hex(4)}"
        if os.path.lexists(staging):
            continue
        # Before it is there: a signal may come at any moment.
        stack.callback(shutil.rmtree, staging, ignore_errors=True)
        staging.mkdir(mode=0o700)
        try:
            lock = os.open(staging, os.O_RDONLY)
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (FileNotFoundError, BlockingIOError):
            continue  # another writer found it before it was locked, and removes it
        except OSError:  # no locks here
            return staging
        if _is_open(staging, lock):
            return staging


def _remove_staging(path: Path) -> None:
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # not a folder, or gone
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # somebody writes there, or there are no locks
        pass
    else:
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)


def _is_open(path: Path, descriptor: int) -> bool:
    """Whether the path still leads to what is open: it may have been removed before the lock."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
