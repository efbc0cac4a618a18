"""Where files are: a folder or an object store, through fsspec."""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bundle.sync import sync

PROTOCOLS = frozenset({"file", "local", "memory", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})
"""File systems that list, and write a file as a whole. Web addresses are not fetched."""

DRAFT = ".draft"
"""Ends the name of a file that is being written; what a killed process left is of no use."""


class PlaceError(ValueError):
    """A location that cannot be used; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A file system and a path in it."""

    fs: Any
    path: str

    @classmethod
    def of(cls, location: str) -> Place:
        """From a path, or from an fsspec URL such as s3://bucket/folder. Raises PlaceError."""
        import fsspec

        protocol = location.partition("://")[0] if "://" in location else "file"
        if protocol not in PROTOCOLS:
            raise PlaceError(f"{protocol}://: not a file system that an export reads or writes")
        try:
            fs, path = fsspec.core.url_to_fs(location)
        except (ImportError, ValueError) as error:
            raise PlaceError(f"{protocol}://: {error}") from None
        return cls(fs=fs, path=path.rstrip("/") or "/")

    @property
    def local(self) -> bool:
        """Files of this machine, which can be locked and flushed."""
        return "file" in self.fs.protocol or self.fs.protocol == "file"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return posixpath.basename(self.path)

    @property
    def parent(self) -> Place:
        """The folder that it is in."""
        return Place(fs=self.fs, path=posixpath.dirname(self.path))

    def at(self, name: str) -> Place:
        """A file or a folder in this folder; an absolute path is taken as it is."""
        return Place(fs=self.fs, path=posixpath.join(self.path, name))

    def exists(self) -> bool:
        """There is such a file or folder."""
        return bool(self.fs.exists(self.path))

    def is_folder(self) -> bool:
        """It is a folder."""
        return bool(self.fs.isdir(self.path))

    def stamp(self) -> str:
        """Changes when the file does: its size, and its version or time of change.

        Raises FileNotFoundError.
        """
        return stamp_of(self.fs.info(self.path))

    def walk(self) -> Iterator[tuple[str, str]]:
        """Files in and below it: path relative to it, and stamp; sorted by path."""
        found = self.fs.find(self.path, detail=True)
        for path in sorted(found):
            yield posixpath.relpath(path, self.path), stamp_of(found[path])

    def files(self, suffixes: tuple[str, ...]) -> tuple[Place, list[str]]:
        """A folder and paths in it: of this file, or of those in and below this folder that end
        so."""
        if not self.is_folder():
            return self.parent, [self.name]
        return self, [path for path, _ in self.walk() if path.endswith(suffixes)]

    def read(self, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes of the file, or some of them. Raises OSError."""
        data: bytes = self.fs.cat_file(self.path, start=start, end=end)
        return data

    @contextlib.contextmanager
    def create(self) -> Iterator[Any]:
        """A stream whose bytes become the file when the block ends well, or else nothing."""
        if not self.local:  # an object appears when its upload is complete
            stream = self.fs.open(self.path, "wb")
            try:
                yield stream
            except BaseException:
                stream.discard()
                raise
            stream.close()
            return
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        draft = self.parent.at(f".{self.name}.{os.getpid()}{DRAFT}").path
        try:
            with open(draft, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, self.path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft)
        sync(os.path.dirname(self.path))

    def write(self, data: bytes) -> None:
        """The whole file or, whatever happens, nothing: a new one takes the old one's place."""
        with self.create() as stream:
            stream.write(data)

    def sweep(self) -> None:
        """Removes what killed processes left half written in and below this folder."""
        for path in self.fs.find(self.path) if self.local else ():
            if path.endswith(DRAFT):
                self.fs.rm_file(path)


def stamp_of(info: dict[str, Any]) -> str:
    """A file's stamp from what its file system tells."""
    for key in ("ETag", "etag", "md5Hash", "generation", "mtime", "LastModified", "created"):
        if info.get(key) is not None:
            return f"{info.get('size')} {info[key]}"
    return str(info.get("size"))
