"""Memory that two processes share."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def anonymous_file(size: int, purpose: str) -> Iterator[int]:
    """The descriptor of a file of `size` bytes without a name, in memory where the system has
    memfd; whoever maps it keeps it. `purpose` is one word, which tools of the system show."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create(f"sparseclip-{purpose}")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.truncate(descriptor, size)
        yield descriptor
    finally:
        os.close(descriptor)
