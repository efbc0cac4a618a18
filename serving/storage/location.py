"""Where files are: a folder or an object store, through fsspec."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import os
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import fsspec

from bundle import atomic

PROTOCOLS = frozenset({"file", "local", "memory", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})
"""File systems that list their files and write a file as a whole. Web addresses are not fetched."""

STORE_LIBRARIES = frozenset(
    {"adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google"}
)
"""Libraries of object stores. Not all of their errors are OSErrors."""


class LocationError(ValueError):
    """A location that cannot be used; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Location:
    """A file system and a path in it."""

    fs: Any
    path: str
    drafts: str | None = None
    """The folder in which half-written files of this machine are, by its path. None: each is in the
    folder of its file."""

    @classmethod
    def parse(cls, text: str) -> Location:
        """A path, or an fsspec URL such as s3://bucket/folder. Raises LocationError."""
        protocol = text.partition("://")[0] if "://" in text else "file"
        if protocol not in PROTOCOLS:
            raise LocationError(f"{protocol}://: not a file system that an export reads or writes")
        try:
            # Without the cache of listings, a file's fingerprint is what the store has now.
            fs, path = fsspec.core.url_to_fs(text, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise LocationError(f"{protocol}://: {error}") from None
        return cls(fs=fs, path=path.rstrip("/") or "/")

    @property
    def is_local(self) -> bool:
        """Whether its files are on this machine, where they can be locked and flushed."""
        return "file" in self.fs.protocol or self.fs.protocol == "file"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return posixpath.basename(self.path)

    @property
    def parent(self) -> Location:
        """The folder that it is in."""
        return dataclasses.replace(self, path=posixpath.dirname(self.path))

    def at(self, name: str) -> Location:
        """A file or a folder in this folder. An absolute path replaces the folder's."""
        path = posixpath.join(self.path, name)
        if ".." in name.split("/"):  # an object store would take the dots as part of the name
            path = posixpath.normpath(path)
        return dataclasses.replace(self, path=path)

    def with_drafts(self, name: str) -> Location:
        """The same folder with its half-written files, and those of all folders in it, in its
        folder `name`."""
        return dataclasses.replace(self, drafts=self.at(name).path)

    @contextlib.contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Raises LocationError in place of a library's error when an object store does not answer,
        which says nothing about the file. What is wrong with a file stays an OSError."""
        try:
            yield
        except OSError as error:
            if self._is_of_the_file(error):
                raise
            raise self._error(error) from None
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in STORE_LIBRARIES:
                raise
            raise self._error(error) from None

    def _is_of_the_file(self, error: OSError) -> bool:
        # A PermissionError of a store means a key that has expired, not a file that is protected.
        # A plain OSError without a number comes from a reader that found the data damaged.
        # A range that is not in the file is one of a file that has become shorter.
        is_damaged = type(error) is OSError and error.errno in (None, errno.EINVAL)
        return self.is_local or isinstance(error, FileNotFoundError) or is_damaged

    def _error(self, error: Exception) -> LocationError:
        line = str(error).partition("\n")[0] or type(error).__name__
        return LocationError(f"{self.fs.unstrip_protocol(self.path)}: {line}")

    def exists(self) -> bool:
        """Whether there is such a file or folder."""
        with self.translate_errors():
            return bool(self.fs.exists(self.path))

    def is_folder(self) -> bool:
        """Whether it is a folder."""
        with self.translate_errors():
            return bool(self.fs.isdir(self.path))

    def is_below(self, folder: Location) -> bool:
        """Whether it is inside of `folder`, links followed; not when it is `folder` itself."""
        if self.is_local != folder.is_local or self.fs.protocol != folder.fs.protocol:
            return False
        resolve = os.path.realpath if self.is_local else posixpath.normpath
        path, above = resolve(self.path), resolve(folder.path)
        return path != above and path.startswith(above.rstrip("/") + "/")

    def fingerprint(self) -> str:
        """A text that changes when the file does: its size, and its version or time of change.

        Raises FileNotFoundError.
        """
        with self.translate_errors():
            if self.is_local:
                return local_fingerprint(os.stat(self.path))
            return self.fingerprint_of(self.fs.info(self.path))

    def fingerprint_of(self, info: Mapping[str, Any]) -> str:
        """The fingerprint of a file by what its store says of it."""
        for key in ("ETag", "etag", "md5Hash", "generation", "mtime", "LastModified", "created"):
            if (version := info.get(key)) is not None:
                # A listing and a request for one file may write the same version differently.
                if isinstance(version, datetime):
                    version = version.timestamp()
                return f"{info.get('size')} {str(version).strip(chr(34))}"
        return str(info.get("size"))

    def modified(self) -> datetime:
        """When the file was last written, UTC."""
        with self.translate_errors():
            time: datetime = self.fs.modified(self.path)
        return time

    def names(self) -> list[str]:
        """Files and folders in this folder, sorted; empty when there is no folder. Raises
        LocationError when it is a file or cannot be listed."""
        try:
            with self.translate_errors():
                self.fs.invalidate_cache(self.path)  # other processes write there too
                paths = self.fs.ls(self.path, detail=False)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LocationError(f"{self.path}: {_reason(error)}") from None
        if self.is_local and self.fs.isfile(self.path):
            raise LocationError(f"{self.path}: not a folder")
        names = {posixpath.relpath(path, self.path) for path in paths}
        return sorted(names - {"."})  # an object store may keep a marker of the folder itself

    def walk(self) -> Iterator[tuple[str, str]]:
        """Path and fingerprint of every file in and below this folder, sorted by path."""
        with self.translate_errors():
            infos = self.fs.find(self.path, detail=True)
        for path in sorted(infos):
            yield posixpath.relpath(path, self.path), self.fingerprint_of(infos[path])

    def read(self, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes of the file, or those from `start` to `end`. Raises OSError."""
        with self.translate_errors():
            data: bytes = self.fs.cat_file(self.path, start=start, end=end)
        return data

    @contextlib.contextmanager
    def open(self) -> Iterator[Any]:
        """A stream to read from. Raises OSError."""
        with self.translate_errors(), self.fs.open(self.path, "rb") as stream:
            yield stream

    def write(self, data: bytes) -> None:
        """Writes the whole file; when that fails, the file stays as it was. Raises
        LocationError."""
        with self.create() as stream:
            stream.write(data)

    @contextlib.contextmanager
    def create(self) -> Iterator[Any]:
        """A stream whose bytes become the file when the block ends without an error. Otherwise the
        file stays as it was. Raises LocationError."""
        try:
            draft = atomic.draft_of(self.path, self.drafts) if self.is_local else self._upload()
            with draft as stream:
                yield stream
        except OSError as error:
            raise LocationError(f"{self.path}: {_reason(error)}") from None

    def write_new(self, data: bytes) -> bool:
        """Writes the whole file unless it is there; says whether it did. Of several processes, one
        writes it. Raises LocationError."""
        try:
            if self.is_local:
                with atomic.draft_of(self.path, self.drafts, replace=False) as stream:
                    stream.write(data)
                return True
            with self.translate_errors():
                self.fs.pipe_file(self.path, data, mode="create")
        except FileExistsError:
            return False
        except (NotImplementedError, TypeError, ValueError):  # a store without such a request
            if self.exists():
                return False
            self.write(data)
            return self.read() == data
        except OSError as error:
            raise LocationError(f"{self.path}: {_reason(error)}") from None
        return True

    @contextlib.contextmanager
    def _upload(self) -> Iterator[Any]:
        with self.translate_errors():
            stream = self.fs.open(self.path, "wb")
            try:
                yield stream
            except BaseException:
                stream.discard()
                raise
            stream.close()  # the object appears when its upload is complete

    def remove(self) -> None:
        """Removes the file."""
        with self.translate_errors():
            self.fs.rm_file(self.path)

    def remove_drafts(self) -> None:
        """Removes drafts that killed processes left in this folder."""
        if self.is_local:
            atomic.sweep(self.path)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Locks the file as `try_lock` does, and waits while another process holds it."""
        if not self.is_local:
            yield
            return
        descriptor = self._open_lock()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def try_lock(self) -> Iterator[bool]:
        """Locks the file, which is made if there is none, until the block ends. Gives False when
        another process holds the lock.

        The operating system releases the lock with its process, so a killed one leaves none. On an
        object store nothing is locked, and every process gets True.
        """
        if not self.is_local:
            yield True
            return
        descriptor = self._open_lock()
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)

    def _open_lock(self) -> int:
        try:
            os.makedirs(posixpath.dirname(self.path), exist_ok=True)
            return os.open(self.path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise LocationError(f"{self.path}: {_reason(error)}") from None


def local_fingerprint(status: os.stat_result) -> str:
    """The fingerprint of a file of this machine."""
    return f"{status.st_size} {status.st_mtime_ns}"


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
