"""Where files are: a folder or an object store, through fsspec."""

from __future__ import annotations

import contextlib
import itertools
import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from bundle import atomic

PROTOCOLS = frozenset({"file", "local", "memory", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})
"""File systems that list, and write a file as a whole. Web addresses are not fetched."""

STORES = frozenset({"adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google"})
"""Libraries of object stores, whose errors are not all OSErrors."""

AT_ONCE = 64
"""Files in memory at a time when many are read."""


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
        path = posixpath.join(self.path, name)
        if ".." in name.split("/"):  # which an object store would take as a name
            path = posixpath.normpath(path)
        return Place(fs=self.fs, path=path)

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Raises PlaceError, in place of what its library raises, when an object store does not
        answer: that says nothing about the file. What is wrong with a file stays an OSError."""
        try:
            yield
        except OSError as error:
            if self._lasts(error):
                raise
            raise self._error(error) from None
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in STORES:
                raise
            raise self._error(error) from None

    def _lasts(self, error: OSError) -> bool:
        # A key that has run out is a PermissionError. A reader's error has no number.
        of_data = type(error) is OSError and error.errno is None
        return self.local or isinstance(error, FileNotFoundError) or of_data

    def _error(self, error: Exception) -> PlaceError:
        line = str(error).partition("\n")[0] or type(error).__name__
        return PlaceError(f"{self.fs.unstrip_protocol(self.path)}: {line}")

    def exists(self) -> bool:
        """There is such a file or folder."""
        with self.told():
            return bool(self.fs.exists(self.path))

    def is_folder(self) -> bool:
        """It is a folder."""
        with self.told():
            return bool(self.fs.isdir(self.path))

    def stamp(self) -> str:
        """Changes when the file does: its size, and its version or time of change.

        Raises FileNotFoundError.
        """
        with self.told():
            return stamp_of(self.fs.info(self.path))

    def names(self) -> list[str]:
        """Files and folders in this folder, sorted; none where there is no folder. Raises
        PlaceError when it is a file or cannot be listed."""
        try:
            with self.told():
                self.fs.invalidate_cache(self.path)  # other processes write there too
                paths = self.fs.ls(self.path, detail=False)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise PlaceError(f"{self.path}: {(error.strerror or str(error)).lower()}") from None
        if self.local and self.fs.isfile(self.path):
            raise PlaceError(f"{self.path}: not a folder")
        names = {posixpath.relpath(path, self.path) for path in paths}
        return sorted(names - {"."})  # an object store may keep a mark of the folder itself

    def walk(self) -> Iterator[tuple[str, str]]:
        """Files in and below it: path relative to it, and stamp; sorted by path."""
        with self.told():
            found = self.fs.find(self.path, detail=True)
        for path in sorted(found):
            yield posixpath.relpath(path, self.path), stamp_of(found[path])

    def files(self, suffixes: tuple[str, ...]) -> tuple[Place, dict[str, str]]:
        """A folder, and paths in it with their stamps: of this file, or of those in and below this
        folder that end so."""
        if not self.is_folder():
            return self.parent, {self.name: self.stamp()}
        return self, {path: stamp for path, stamp in self.walk() if path.endswith(suffixes)}

    def read(self, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes of the file, or some of them. Raises OSError."""
        with self.told():
            data: bytes = self.fs.cat_file(self.path, start=start, end=end)
        return data

    @contextlib.contextmanager
    def open(self) -> Iterator[Any]:
        """A stream to read from. Raises OSError."""
        with self.told(), self.fs.open(self.path, "rb") as stream:
            yield stream

    def changed(self) -> datetime:
        """When the file was written, UTC."""
        with self.told():
            found: datetime = self.fs.modified(self.path)
        return found

    def remove(self) -> None:
        """Removes the file."""
        with self.told():
            self.fs.rm_file(self.path)

    @contextlib.contextmanager
    def create(self) -> Iterator[Any]:
        """A stream whose bytes become the file when the block ends well, or else nothing. Raises
        PlaceError."""
        try:
            with atomic.draft_of(self.path) if self.local else self._upload() as stream:
                yield stream
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise PlaceError(f"{self.path}: {reason}") from None

    @contextlib.contextmanager
    def _upload(self) -> Iterator[Any]:
        with self.told():
            stream = self.fs.open(self.path, "wb")
            try:
                yield stream
            except BaseException:
                stream.discard()
                raise
            stream.close()  # the object appears when its upload is complete

    def write(self, data: bytes) -> None:
        """The whole file or, whatever happens, nothing: a new one takes the old one's place.
        Raises PlaceError."""
        with self.create() as stream:
            stream.write(data)

    def sweep(self, *, below: bool = False) -> None:
        """Removes drafts that killed processes left in this folder, or in and below it."""
        if not self.local:
            return
        for folder, folders, _ in os.walk(self.path):
            atomic.sweep(folder)
            if not below:
                folders.clear()


class Part(NamedTuple):
    """A file, or some of its bytes."""

    place: Place
    start: int = 0
    end: int | None = None


def read_many(parts: Sequence[Part]) -> Iterator[bytes | OSError]:
    """Bytes of files, or why there are none, in their order; of an object store many are asked for
    at a time. Raises PlaceError."""
    for first in range(0, len(parts), AT_ONCE):
        for _, group in itertools.groupby(parts[first : first + AT_ONCE], _store):
            yield from _read_together(list(group))


def _store(part: Part) -> int:
    return id(part.place.fs)


def _read_together(parts: list[Part]) -> Iterator[bytes | OSError]:
    places, starts, ends = map(list, zip(*parts, strict=True))
    paths = [place.path for place in places]
    found = places[0].fs.cat_ranges(paths, starts, ends, on_error="return")
    for place, data in zip(places, found, strict=True):
        try:
            with place.told():
                if isinstance(data, Exception):
                    raise data
        except OSError as error:
            yield error
        else:
            yield data


def stamp_of(info: dict[str, Any]) -> str:
    """A file's stamp from what its file system tells."""
    for key in ("ETag", "etag", "md5Hash", "generation", "mtime", "LastModified", "created"):
        if info.get(key) is not None:
            return f"{info.get('size')} {info[key]}"
    return str(info.get("size"))
