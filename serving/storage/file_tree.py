"""Every file in and below a folder, with its size, its stamp and what is wrong with it."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from serving.storage.local_tree import NOT_A_FILE, NOT_FOUND, problem_of, walk_local
from serving.storage.location import Location, local_fingerprint


class StoredFile(NamedTuple):
    """A file, or something in its place."""

    path: str
    """Relative to the folder that was walked. That of a folder ends in a slash: it is one whose
    names cannot be listed."""
    size: int
    fingerprint: str
    problem: str = ""
    """Why it cannot be read; empty for a regular file."""


def walk_files(folder: Location, skip: Callable[[str], None]) -> Iterator[StoredFile]:
    """Every file in and below a folder, sorted by path.

    A link to a folder outside of it is followed once. A link to a folder that is read already, or
    will be, is passed to `skip` as a reason: so loops end. Raises LocationError.
    """
    if not folder.is_local:
        yield from _walk_store(folder)
        return
    for path, problem in walk_local(folder.path, skip):
        yield StoredFile(path, 0, "", problem) if problem else _stat(folder, path)


def walk_names(folder: Location) -> Iterator[str]:
    """The paths that `walk_files` gives, without a look at each file. Raises LocationError."""
    if folder.is_local:
        return (path for path, _ in walk_local(folder.path, lambda reason: None))
    return (file.path for file in _walk_store(folder))


def look_up(file: Location) -> StoredFile:
    """One file by its location; its `path` is its name. Raises LocationError."""
    if file.is_local:
        return _stat(file.parent, file.name)
    try:
        with file.translate_errors():
            info = file.fs.info(file.path)
    except OSError as error:
        return StoredFile(file.name, 0, "", problem_of(error))
    problem = "" if info["type"] == "file" else NOT_A_FILE
    return StoredFile(file.name, info["size"] or 0, file.fingerprint_of(info), problem)


def _walk_store(folder: Location) -> Iterator[StoredFile]:
    with folder.translate_errors():
        infos = folder.fs.find(folder.path, detail=True)
    for path in sorted(infos):
        if not path.endswith("/"):  # a store may keep a marker of a folder
            info = infos[path]
            fingerprint = folder.fingerprint_of(info)
            yield StoredFile(posixpath.relpath(path, folder.path), info["size"], fingerprint)


def _stat(folder: Location, path: str) -> StoredFile:
    try:
        status = os.stat(posixpath.join(folder.path, path))
    except OSError as error:
        return StoredFile(path, 0, "", problem_of(error))
    except ValueError:  # a NUL in the name
        return StoredFile(path, 0, "", NOT_FOUND)
    problem = "" if stat.S_ISREG(status.st_mode) else NOT_A_FILE
    return StoredFile(path, status.st_size, local_fingerprint(status), problem)
