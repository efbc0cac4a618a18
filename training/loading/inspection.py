"""A look at pairs before a run: what is bad and why, what repeats, and how long captions are."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from bundle.image import ImageError, ImageLimits, decode_image
from bundle.tokenizer import TokenizedText
from training.core.progress import progress_bar
from training.loading.pair_data import PairSplit, side_of
from training.loading.sources.base import BadPair, Damage, OtherMembers, Pair

EXAMPLES = 5
"""Good pairs that a report shows, and captions that repeat most."""

MAX_NAMED = 20
"""Bad pairs that a report names. All are counted."""


@dataclass(kw_only=True)
class SplitReport:
    """What one split holds. Every pair found is good or bad: `found` is the sum of both."""

    split: str
    good: int = 0
    held_out: int = 0
    """Good pairs that training leaves out, in data without splits of their own."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Bad pairs by reason."""
    bad_pairs: list[BadPair] = field(default_factory=list)
    """The first MAX_NAMED bad pairs."""
    damaged: dict[str, str] = field(default_factory=dict)
    """Files that could not be read to their end, with the reason."""
    repeated_images: int = 0
    """Good pairs whose image is that of an earlier pair of the split, byte by byte."""
    seen_in_other_splits: int = 0
    """Good pairs whose image is in a split that was looked at before."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Files, and members of the tar files that were read, that belong to no pair, by their
    endings."""
    texts: Counter[str] = field(default_factory=Counter)
    """Captions, with how often each occurs."""
    lengths: list[int] = field(default_factory=list)
    """Tokens of each caption, start and end included."""
    cut: int = 0
    """Captions of which the model reads the beginning only."""
    sides: list[int] = field(default_factory=list)
    """The shorter side of each image, in pixels."""
    examples: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """Keys and captions of the first EXAMPLES good pairs."""

    @property
    def bad(self) -> int:
        """Number of bad pairs."""
        return self.reasons.total()

    @property
    def found(self) -> int:
        """Number of pairs."""
        return self.good + self.bad

    def to_dict(self) -> dict[str, object]:
        """The report as plain data, for JSON."""
        return {
            "split": self.split,
            "found": self.found,
            "good": self.good,
            "held_out": self.held_out,
            "bad": self.bad,
            "reasons": dict(self.reasons.most_common()),
            "bad_pairs": [pair._asdict() for pair in self.bad_pairs],
            "damaged": self.damaged,
            "left_out": self.left_out,
            "repeated_images": self.repeated_images,
            "seen_in_other_splits": self.seen_in_other_splits,
            "captions": self.texts.total(),
            "distinct_captions": len(self.texts),
            "most_frequent": self.texts.most_common(EXAMPLES),
            "tokens": quantiles(self.lengths),
            "cut_captions": self.cut,
            "shorter_side": quantiles(self.sides),
            "examples": [{"key": key, "captions": captions} for key, captions in self.examples],
        }


def quantiles(values: list[int]) -> dict[str, int]:
    """Smallest, median, 95th percentile and largest of some values; empty for none."""
    if not values:
        return {}
    found = np.quantile(values, [0, 0.5, 0.95, 1], method="nearest").tolist()
    return dict(zip(("min", "median", "p95", "max"), map(int, found), strict=True))


class PairInspector:
    """Looks at splits, one after another. It decodes every image, as a run does."""

    def __init__(self, tokenize: Callable[[str], TokenizedText], limit: int = 0) -> None:
        """`limit` is how many pairs of a split are looked at; 0 for all."""
        self._tokenize, self._limit = tokenize, limit
        self._in_other_splits: set[bytes] = set()

    def inspect(self, pairs: PairSplit) -> SplitReport:
        """Reads the pairs of a split, with a progress bar."""
        report = SplitReport(split=pairs.name)
        left_out = Counter(pairs.source.left_out)
        images: set[bytes] = set()
        total = min(self._limit or pairs.pairs, pairs.pairs)
        with progress_bar(total, "pair", description=f"{pairs.name}: ", leave=False) as bar:
            for found in pairs.read_all():
                if isinstance(found, Damage):
                    report.damaged[found.piece] = found.reason
                    continue
                if isinstance(found, OtherMembers):
                    left_out += found.endings
                    continue
                if self._limit and report.found >= self._limit:
                    break
                bad = self._look(found, pairs, report, images)
                if bad is not None:
                    report.reasons[bad.reason] += 1
                    if len(report.bad_pairs) < MAX_NAMED:
                        report.bad_pairs.append(bad)
                bar.update()
        report.left_out = dict(left_out)
        self._in_other_splits |= images
        return report

    def _look(
        self, pair: Pair | BadPair, pairs: PairSplit, report: SplitReport, images: set[bytes]
    ) -> BadPair | None:
        """Adds a pair to the report, or returns why it is bad."""
        if isinstance(pair, BadPair):
            return pair
        try:
            image = decode_image(pair.image, ImageLimits())
        except ImageError as error:
            return BadPair(pair.key, str(error))
        report.good += 1
        report.held_out += pairs.has_sides and side_of(pair) == "held_out"
        report.sides.append(min(image.size))
        digest = hashlib.sha256(pair.image).digest()[:12]
        report.repeated_images += digest in images
        report.seen_in_other_splits += digest in self._in_other_splits
        images.add(digest)
        for caption in pair.captions:
            tokens = self._tokenize(caption)
            report.texts[caption] += 1
            report.lengths.append(tokens.tokens)
            report.cut += tokens.truncated
        if len(report.examples) < EXAMPLES:
            report.examples.append((pair.key, pair.captions))
        return None
