"""A case of damage to the files of one kind of source, and the good pairs in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.cases.pairs import WrittenPair, pair_files

Write = Callable[[Path], None]

Damage = tuple[Write, int, dict[str, int], dict[str, str]]
"""What writes the files, how many pairs are good, and what is said of the rest: how many pairs by
reason, and the reason by file."""


def shard(*pairs: WrittenPair) -> list[tuple[str, bytes]]:
    return [file for pair in pairs for file in pair_files(pair)]


A, B, C = (WrittenPair(name=name) for name in "abc")
