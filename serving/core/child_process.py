"""What a process that this one starts inherits from it."""

from __future__ import annotations

import os
import sys


def python_path() -> str:
    """This process's import path as PYTHONPATH, so that a child imports the same modules."""
    return os.pathsep.join(entry or os.curdir for entry in sys.path)
