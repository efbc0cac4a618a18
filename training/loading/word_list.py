"""A file of words or phrases, one a line."""

from __future__ import annotations

from pathlib import Path

from training.data.data_recipe import DataError
from training.loading.sources.base import printable


def read_lines(path: Path, field: str, max_bytes: int) -> list[str]:
    """All lines of a UTF-8 file, blank ones too.

    Raises DataError, which names `field` and the file, for a file that is not there, larger than
    `max_bytes`, or not UTF-8.
    """
    at = f"{field}: {printable(path.name)}"
    if not path.is_file():
        raise DataError(f"{at}: {'not a file' if path.exists() else 'not found'}")
    if path.stat().st_size > max_bytes:
        raise DataError(f"{at}: more than {max_bytes:,} bytes")
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise DataError(f"{at}: not UTF-8") from None
    except OSError:
        raise DataError(f"{at}: cannot be read") from None
