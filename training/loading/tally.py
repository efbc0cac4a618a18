"""What reading pairs gave: counts, reasons, and when too much is lost to go on."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from training.data.data_recipe import DataError
from training.loading.sources.base import BadPair, Damage, OtherMembers

SHOWN = 5
"""Reasons that a line of text names."""

MAX_LOST = 0.1
"""A run ends when a larger part of the pairs is bad, or of the pieces is damaged."""

MIN_BAD, MIN_DAMAGED = 100, 3
"""Fewer bad pairs, and fewer damaged pieces, never end a run."""

MAX_NAMED = 20
"""Bad pairs, and damaged pieces, that the log names. All are counted."""

log = logging.getLogger(__name__)


def log_left_out(data: str, files: Mapping[str, int]) -> None:
    """Names the files, counted by their endings, that belong to no pair of the data."""
    if files:
        log.info("%s: files that belong to no pair, by ending: %s", data, dict(files))


class ReadReport(NamedTuple):
    """What was read since the report before."""

    good: int = 0
    reasons: Counter[str] = Counter()
    """Bad pairs by reason."""
    bad: tuple[BadPair, ...] = ()
    """The first MAX_NAMED of them."""
    damaged: tuple[Damage, ...] = ()
    others: tuple[OtherMembers, ...] = ()
    cut: int = 0
    """Captions that are longer than the text tower's context."""


class PairTally:
    """Counts of a run, over all that read for it; names bad pairs in the log."""

    def __init__(self, data: str, pieces: int) -> None:
        """`data` is the name of the data, of `pieces` pieces."""
        self.data, self.pieces = data, pieces
        self.good = self.cut = 0
        self.reasons: Counter[str] = Counter()
        self.damaged: dict[str, str] = {}
        self.others: dict[str, Counter[str]] = {}
        """By piece: members that belong to no pair, by their endings."""
        self._named: set[str] = set()

    @property
    def bad(self) -> int:
        """Bad pairs, each counted as often as it was read."""
        return self.reasons.total()

    @property
    def found(self) -> int:
        """All pairs: those that are good and those that are bad."""
        return self.good + self.bad

    def add(self, report: ReadReport) -> None:
        """Takes a report in. Raises DataError when too many pieces are damaged."""
        self.good += report.good
        self.cut += report.cut
        self.reasons.update(report.reasons)
        for pair in report.bad:
            if pair.key not in self._named and len(self._named) < MAX_NAMED:
                self._named.add(pair.key)
                log.warning("bad pair: %s: %s", pair.key, pair.reason)
                if len(self._named) == MAX_NAMED:
                    log.warning("further bad pairs are counted only")
        for piece, reason in report.damaged:
            if piece not in self.damaged:
                self.damaged[piece] = reason
                if len(self.damaged) <= MAX_NAMED:
                    log.warning("damaged: %s: %s; what is readable is read", piece, reason)
        for piece, endings in report.others:
            if piece not in self.others:
                self.others[piece] = endings
                if len(self.others) <= MAX_NAMED:
                    log.info("%s: members that belong to no pair: %s", piece, by_number(endings))
        if len(self.damaged) >= MIN_DAMAGED and len(self.damaged) > MAX_LOST * self.pieces:
            raise DataError(
                f"data.path: {self.data}: {len(self.damaged)} of {self.pieces} files are damaged,"
                f" such as {next(iter(self.damaged))}"
            )

    def summary(self) -> str:
        """The counts in one line."""
        line = f"{self.found} pairs read, {self.good} good, {self.bad} bad"
        if self.reasons:
            line += f" ({by_number(self.reasons)})"
        if others := sum(self.others.values(), Counter[str]()):
            line += f", {others.total()} members that belong to no pair ({by_number(others)})"
        if self.cut:
            line += f", {self.cut} captions cut at the context's end"
        return line + (f", {len(self.damaged)} files damaged" if self.damaged else "")


def by_number(counts: Counter[str]) -> str:
    """The most frequent reasons or endings with their counts, and the count of all others."""
    shown = counts.most_common(SHOWN)
    if others := counts.total() - sum(count for _, count in shown):
        shown.append(("others", others))
    return ", ".join(f"{name}: {count}" for name, count in shown)


def too_many_bad(bad: int, read: int) -> bool:
    """Whether a run ends: more than MAX_LOST of the pairs read are bad, and at least MIN_BAD."""
    return bad >= MIN_BAD and bad > MAX_LOST * read
