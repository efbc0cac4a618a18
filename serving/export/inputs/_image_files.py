"""Images that are files of their own: as entries, and read whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bundle.image import ImageLimits
from serving.export.inputs.base import CHANGED, Content, Unreadable, image_size_problem
from serving.storage.file_tree import look_up
from serving.storage.local_tree import NOT_A_FILE, problem_of
from serving.storage.location import Location, local_fingerprint
from serving.storage.parallel import FileRange, map_in_threads, read_ranges


class ImageFile(NamedTuple):
    """A file as it was when it was listed."""

    location: Location
    fingerprint: str
    """Empty when it is not to be compared."""


def read_image_files(files: Sequence[ImageFile]) -> Iterator[Content]:
    """The bytes of each file, in their order. A file that has changed since it was listed, or
    changes while it is read, is Unreadable; so is one that is larger than an image may be, of which
    no more than that is read. Raises LocationError."""
    stored = iter(_read_objects([file for file in files if not file.location.is_local]))
    for file in files:
        yield _read_local(file) if file.location.is_local else next(stored)


def _read_local(file: ImageFile) -> Content:
    try:
        # Not blocking: to open a FIFO that nobody writes to would wait for ever.
        descriptor = os.open(file.location.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                return Unreadable(NOT_A_FILE)
            if file.fingerprint not in ("", local_fingerprint(before)):
                return Unreadable(CHANGED)
            if problem := image_size_problem(before.st_size):
                return Unreadable(problem)
            data = stream.read(before.st_size)
            after = os.fstat(descriptor)
    except OSError as error:
        return Unreadable(problem_of(error))
    is_same = local_fingerprint(before) == local_fingerprint(after)
    return data if is_same and len(data) == before.st_size else Unreadable(CHANGED)


def _read_objects(files: Sequence[ImageFile]) -> Iterator[Content]:
    """Objects of stores. A store gives an object whole as it was at one moment. So it is as it was
    listed when its version is the same after it was read."""
    if not files:
        return
    limit = ImageLimits().bytes
    read = list(read_ranges([FileRange(file.location, 0, limit + 1) for file in files]))
    now = map_in_threads(look_up, [file.location for file in files])
    for file, data, found in zip(files, read, now, strict=True):
        if found.problem:
            yield Unreadable(found.problem)
        elif file.fingerprint not in ("", found.fingerprint):
            yield Unreadable(CHANGED)
        elif isinstance(data, OSError):
            yield Unreadable(image_size_problem(found.size) or problem_of(data))
        else:
            problem = image_size_problem(max(found.size, len(data)))
            yield Unreadable(problem) if problem else data
