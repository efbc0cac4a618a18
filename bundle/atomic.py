"""What was written reaches the disk."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path | str) -> None:
    """Flushes a file, or a folder's list of names, to its disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
