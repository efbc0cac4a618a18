"""The folders whose images a language model may name, and no other file of this machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bundle.image_formats import IMAGE_SUFFIXES
from serving.storage.local_tree import walk_local
from sparseclip._image_files import is_address

MAX_BYTES = 64 * 2**20
"""Size of a file that is read. A server refuses images far smaller than this."""


class PathRefusedError(ValueError):
    """A path that may not be read; the message is for the language model."""


class FileState(NamedTuple):
    """What changes when a file is written to or replaced."""

    path: str
    modified_ns: int
    size: int


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
                real = Path(os.path.realpath(root / path))
                if self._is_inside(real) and real.is_file():
                    return real
        raise PathRefusedError("no such file in the allowed folders")

    def images(self, folder: str = "") -> list[FileState]:
        """The images in and below a folder, or below every root. Raises PathRefusedError."""
        found: dict[str, FileState] = {}
        for start in self._folders(folder):
            for name, problem in walk_local(str(start), lambda reason: None):
                if problem or not name.lower().endswith(IMAGE_SUFFIXES):
                    continue
                real = os.path.realpath(start / name)
                if self._is_inside(Path(real)) and os.path.isfile(real):
                    status = os.stat(real)
                    found[real] = FileState(real, status.st_mtime_ns, status.st_size)
        return [found[path] for path in sorted(found)]

    def _folders(self, folder: str) -> list[Path]:
        if not folder and self.roots:
            return list(self.roots)
        if "\0" not in folder and not is_address(folder):
            for root in self.roots:
                real = Path(os.path.realpath(root / folder))
                if self._is_inside(real) and real.is_dir():
                    return [real]
        raise PathRefusedError("no such folder in the allowed folders")

    def _is_inside(self, real: Path) -> bool:
        return any(real.is_relative_to(root) for root in self.roots)


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
