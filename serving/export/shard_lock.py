"""Which worker makes a shard: a lock that ends with its process, so that none is left behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from serving.export.receipt import stem
from serving.storage.location import Place

LOCKS = ".locks"


@contextlib.contextmanager
def claim(output: Place, number: int) -> Iterator[bool]:
    """Whether the shard is this process's inside the block; False while another one makes it.

    On an object store nothing is locked: two workers may make the same shard, whose bytes are the
    same.
    """
    if not output.local:
        yield True
        return
    path = output.at(f"{LOCKS}/{stem(number)}").path
    os.makedirs(os.path.dirname(path), exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)
