"""The folders whose images a language model may name, and no other file of this machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bundle.image_formats import IMAGE_SUFFIXES
from sparseclip._image_files import is_address

MAX_BYTES = 64 * 2**20
"""Size of a file that is read. A server refuses images far smaller than this."""
MAX_ENTRIES = 500_000
"""Entries of folders that are looked at for one search."""


class PathRefusedError(ValueError):
    """A path that may not be read; the message is for the language model."""


class FileState(NamedTuple):
    """What changes when a file is written to or replaced."""

    path: str
    modified_ns: int
    size: int


class FolderImages(NamedTuple):
    """The images in and below some folders."""

    files: list[FileState]
    left_out: int
    """Images that lead out of the allowed folders or are no files, names that are not UTF-8, and
    folders that cannot be listed."""


class AllowedFolders:
    """Reads images inside of some folders. A path is judged by where it really leads."""

    def __init__(self, roots: Sequence[Path]) -> None:
        """A relative path is looked for in each root in turn. Roots exist."""
        self.roots = tuple(Path(os.path.realpath(root)) for root in roots)

    def read(self, path: str) -> bytes:
        """The bytes of an image. Raises PathRefusedError."""
        return _read(self.resolve(path))

    def resolve(self, path: str) -> Path:
        """Where a path leads, inside of a root. Raises PathRefusedError, with one text for what is
        outside and for what is not there: it tells nothing about other files."""
        if is_address(path):
            raise PathRefusedError("addresses are not fetched: name a file")
        if not self.roots:
            raise PathRefusedError("no folder is allowed: start `sparseclip mcp` with --root")
        if "\0" not in path:
            for root in self.roots:
                real = _real(root / path)
                if self._is_inside(real) and os.path.isfile(real):
                    return real
        raise PathRefusedError("no such file in the allowed folders")

    def images(self, folder: str = "") -> FolderImages:
        """The images in and below a folder, or below every root. A link to a folder is not
        followed: it may lead to all of this machine. Raises PathRefusedError."""
        found: dict[str, FileState] = {}
        left_out: list[str] = []
        entries = 0
        for start in self._folders(folder):
            for where, below, names in os.walk(
                start, onerror=lambda error: left_out.append(str(error.filename))
            ):
                entries += len(below) + len(names)
                if entries > MAX_ENTRIES:
                    raise PathRefusedError(f"more than {MAX_ENTRIES} files: name a folder below")
                for name in names:
                    if name.lower().endswith(IMAGE_SUFFIXES):
                        path = os.path.join(where, name)
                        file = self._state(path)
                        if file is None:
                            left_out.append(path)
                        else:
                            found[file.path] = file
        return FolderImages([found[path] for path in sorted(found)], len(set(left_out)))

    def _state(self, path: str) -> FileState | None:
        """The image at a path; None for one that may not be read, or that has no name in UTF-8,
        which no answer could hold."""
        real = _real(Path(path))
        try:
            str(real).encode()
            status = os.stat(real)
        except (OSError, ValueError):
            return None
        if not (self._is_inside(real) and stat.S_ISREG(status.st_mode)):
            return None
        return FileState(str(real), status.st_mtime_ns, status.st_size)

    def _folders(self, folder: str) -> list[Path]:
        if not folder and self.roots:
            return list(self.roots)
        if "\0" not in folder and not is_address(folder):
            for root in self.roots:
                real = _real(root / folder)
                if self._is_inside(real) and os.path.isdir(real):
                    return [real]
        raise PathRefusedError("no such folder in the allowed folders")

    def _is_inside(self, real: Path) -> bool:
        return any(real.is_relative_to(root) for root in self.roots)


def _real(path: Path) -> Path:
    """Where a path really leads. One that no system could have leads nowhere."""
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):
        return Path(os.devnull)


def _read(path: Path) -> bytes:
    # A link that was put in its place since then is not followed, and a pipe does not block.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with open(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise PathRefusedError("not a file")
            if status.st_size > MAX_BYTES:
                raise PathRefusedError(f"more than {MAX_BYTES} bytes")
            return file.read(MAX_BYTES)
    except OSError:
        raise PathRefusedError("the file cannot be read") from None
