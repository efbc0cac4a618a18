"""A look at pairs before a run: what is bad and why, what repeats, and how long captions are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from bundle.image import ImageError, ImageLimits, decode_image
from bundle.progress import show_progress
from bundle.tokenizer import TokenizedText
from training.loading.likeness import likeness_of
from training.loading.pair_data import PairSplit
from training.loading.pair_records import RecordWriter
from training.loading.sides import LinkCounts, Links, Sides, image_digest
from training.loading.sources.base import BadPair, Damage, OtherMembers, Pair

EXAMPLES = 5
"""Good pairs that a report shows, and captions that repeat most."""

MAX_SETS = 12
"""Sets of images that look alike of which a report names the members, the largest sets first."""

MAX_MEMBERS = 6
"""Members of such a set that it names."""

MAX_NAMED = 20
"""Bad pairs that a report names. All are counted."""


@dataclass(kw_only=True)
class SplitReport:
    """What one split holds. Every pair found is good or bad: `found` is the sum of both."""

    split: str
    good: int = 0
    held_out: int = 0
    """Good pairs that training leaves out, in data without splits of their own."""
    keys: list[tuple[str, str]] = field(default_factory=list)
    """The piece and the key of each good pair."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Bad pairs by reason."""
    bad_pairs: list[BadPair] = field(default_factory=list)
    """The first MAX_NAMED bad pairs."""
    damaged: dict[str, str] = field(default_factory=dict)
    """Files that could not be read to their end, with the reason."""
    repeated_images: int = 0
    """Good pairs whose image is that of an earlier pair of the split, byte by byte."""
    in_other_splits: dict[str, int] = field(default_factory=dict)
    """Good pairs of which another split has the same `image`, one that looks `alike`, or the
    `caption`."""
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
            "in_other_splits": self.in_other_splits,
            "captions": self.texts.total(),
            "distinct_captions": len(self.texts),
            "most_frequent": self.texts.most_common(EXAMPLES),
            "tokens": quantiles(self.lengths),
            "tokens_histogram": histogram(self.lengths),
            "cut_captions": self.cut,
            "shorter_side": quantiles(self.sides),
            "shorter_side_histogram": histogram(self.sides),
            "examples": [{"key": key, "captions": captions} for key, captions in self.examples],
        }


def quantiles(values: list[int]) -> dict[str, int]:
    """Smallest, median, 95th percentile and largest of some values; empty for none."""
    if not values:
        return {}
    found = np.quantile(values, [0, 0.5, 0.95, 1], method="nearest").tolist()
    return dict(zip(("min", "median", "p95", "max"), map(int, found), strict=True))


def histogram(values: list[int]) -> dict[str, int]:
    """How many values are in each range of a power of two, such as `8-15`."""
    powers = Counter(value.bit_length() for value in values)
    return {
        f"{2 ** (power - 1)}-{2**power - 1}" if power > 1 else str(power): powers[power]
        for power in range(min(powers, default=1), max(powers, default=0) + 1)
    }


class LookAlikes(NamedTuple):
    """Images that look alike, all of them together."""

    number: int
    keys: list[tuple[str, str, str]]
    """Split, piece and key of the first MAX_MEMBERS."""


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """What some data hold, over all their splits."""

    splits: Sequence[SplitReport]
    links: Links
    """Images and captions that belong together."""
    side: Sides | None
    """The sides of the pairs, in data without splits of their own."""
    look_alikes: Sequence[LookAlikes]

    @property
    def counts(self) -> LinkCounts:
        """What repeats."""
        counts = None if self.side is None else self.side.counts
        return self.links.counts() if counts is None else counts

    def to_dict(self) -> dict[str, object]:
        """The report as plain data, for JSON."""
        return {
            "splits": [split.to_dict() for split in self.splits],
            "repeats": self.counts.to_dict(),
            "look_alikes": [
                {"images": number, "keys": [f"{split}: {key}" for split, _, key in keys]}
                for number, keys in self.look_alikes
            ],
        }


class PairInspector:
    """Looks at splits, one after another, and then at what repeats among them. It decodes every
    image, as a run does."""

    def __init__(self, tokenize: Callable[[str], TokenizedText], limit: int = 0) -> None:
        """`limit` is how many pairs of a split are looked at; 0 for all."""
        self._tokenize, self._limit = tokenize, limit
        self._reports: list[SplitReport] = []
        self.writer = RecordWriter()
        """The records of all good pairs."""

    def inspect(self, pairs: PairSplit) -> SplitReport:
        """Reads the pairs of a split, with a progress bar."""
        report = SplitReport(split=pairs.name)
        self._reports.append(report)
        left_out = Counter(pairs.source.left_out)
        images: set[int] = set()
        total = min(self._limit or pairs.pairs, pairs.pairs)
        with show_progress(pairs.name, total, "pairs") as advance:
            for piece, found in ((p, found) for p in pairs.pieces for found in pairs.read(p)):
                if isinstance(found, Damage):
                    report.damaged[found.piece] = found.reason
                    continue
                if isinstance(found, OtherMembers):
                    left_out += found.endings
                    continue
                if self._limit and report.found >= self._limit:
                    break
                bad = self._look(found, piece, report, images)
                if bad is not None:
                    report.reasons[bad.reason] += 1
                    if len(report.bad_pairs) < MAX_NAMED:
                        report.bad_pairs.append(bad)
                advance()
        report.left_out = dict(left_out)
        return report

    def _look(
        self, pair: Pair | BadPair, piece: str, report: SplitReport, images: set[int]
    ) -> BadPair | None:
        """Adds a pair to the report, or returns why it is bad."""
        if isinstance(pair, BadPair):
            return pair
        try:
            image = decode_image(pair.image, ImageLimits())
        except ImageError as error:
            return BadPair(pair.key, str(error))
        report.good += 1
        report.keys.append((piece, pair.key))
        report.sides.append(min(image.size))
        digest = image_digest(pair.image)
        report.repeated_images += digest in images
        images.add(digest)
        self.writer.add(digest, likeness_of(image), pair.captions)
        for caption in pair.captions:
            tokens = self._tokenize(caption)
            report.texts[caption] += 1
            report.lengths.append(tokens.tokens)
            report.cut += tokens.truncated
        if len(report.examples) < EXAMPLES:
            report.examples.append((pair.key, pair.captions))
        return None

    def finish(
        self, *, captions_are_labels: bool, sides: Callable[[Links], Sides] | None = None
    ) -> DataReport:
        """Links the pairs of all splits that were looked at. `sides` says how pairs are held out,
        in data without splits of their own."""
        links = Links.of(self.writer.records(), captions_are_labels=captions_are_labels)
        side = None if sides is None else sides(links)
        splits = np.repeat(np.arange(len(self._reports)), [r.good for r in self._reports])
        for number, report in enumerate(self._reports):
            own = splits == number
            if side is not None:
                report.held_out = int(side.held_out(links.digests)[links.image[own]].sum())
            elif len(self._reports) > 1:
                report.in_other_splits = links.shared(own)
        return DataReport(
            splits=self._reports, links=links, side=side, look_alikes=self._look_alikes(links)
        )

    def _look_alikes(self, links: Links) -> list[LookAlikes]:
        """The largest sets of different images that look alike."""
        sizes = np.bincount(links.thing)
        largest = np.argsort(-sizes, kind="stable")[:MAX_SETS]
        _, first = np.unique(links.image, return_index=True)  # the first pair of each image
        keys = [(r.split, piece, key) for r in self._reports for piece, key in r.keys]
        sets = []
        for thing in largest[sizes[largest] > 1].tolist():
            pairs = np.sort(first[links.thing == thing])[:MAX_MEMBERS]
            sets.append(LookAlikes(int(sizes[thing]), [keys[i] for i in pairs.tolist()]))
        return sets
