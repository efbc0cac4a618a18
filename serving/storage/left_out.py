"""What a search through files found and did not take."""

from __future__ import annotations

import posixpath
import re
from collections import Counter

_ENDING = re.compile(r"\.[a-z0-9_-]{1,16}")
_MAX_REASONS = 64
"""Different endings that are counted on their own: a folder may have millions."""


class LeftOut(Counter[str]):
    """How many files, members and lines were found that are no entries, by reason: the ending of
    the name, such as `.txt`, or a few words."""

    def add_name(self, name: str) -> None:
        """Counts a file by the ending of its name."""
        ending = posixpath.splitext(name)[1].lower()
        self.add(ending if _ENDING.fullmatch(ending) else "no ending")

    def add(self, reason: str) -> None:
        """Counts one thing that was found."""
        known = reason in self or len(self) < _MAX_REASONS
        self[reason if known else "other endings"] += 1

    def __str__(self) -> str:
        """The counts, the highest first."""
        return ", ".join(f"{count:,} {reason}" for reason, count in self.most_common())
