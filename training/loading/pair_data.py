"""The one reader of pairs: for training, evaluation, the naming of concepts and a look before."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bundle.progress import show_progress
from training.data.data_recipe import DataError, closest
from training.data.shards import INDEX, RECEIPTS, read_index, shards_of
from training.loading.held_out_rule import HeldOutRule
from training.loading.pair_index import DataStamp, read_records
from training.loading.sides import HELD_OUT_OF, Links, Side, Sides
from training.loading.sources import AUTO
from training.loading.sources._files import read_json
from training.loading.sources.base import Columns, Found, PairSource, printable
from training.loading.sources.detection import detect_kind, open_source, split_folders
from training.loading.sources.webdataset import TarPairs

log = logging.getLogger(__name__)

TRAIN, HELD_OUT, ALL = "train", "held_out", "all"

MAX_GROUPED_BYTES = 16 * 2**30
"""`auto` is `groups` up to this size of all files, which take some minutes, and `image` beyond."""


@dataclass(frozen=True, kw_only=True)
class PairSplit:
    """The pairs of one split."""

    data: str
    """Name of the data, for messages."""
    name: str
    source: PairSource
    side: Side = "all"
    """Which of the source's pairs these are; `all` where the whole source is the split."""
    sides: Sides = Sides()

    @property
    def pieces(self) -> Sequence[str]:
        """See PairSource.pieces."""
        return self.source.pieces

    def read(self, piece: str) -> Iterator[Found]:
        """See PairSource.read."""
        for found in self.source.read(piece):
            if self.side == ALL or self.side == self.sides.of(found):
                yield found

    def read_all(self) -> Iterator[Found]:
        """The pairs of all pieces, one piece after another."""
        for piece in self.pieces:
            yield from self.read(piece)

    @cached_property
    def pairs(self) -> int:
        """How many pairs, good or bad, there are. No image is read for this, so that the number of
        pairs of one side is an estimate, unless pairs were linked."""
        total = 0
        with show_progress("counting", len(self.pieces), "files") as advance:
            for piece in self.pieces:
                total += self.source.count(piece)
                advance()
        counts = self.sides.counts
        held_out = round(total / HELD_OUT_OF) if counts is None else counts.held_out
        return {"train": total - held_out, "held_out": held_out, "all": total}[self.side]


class PairData:
    """Data that a path names, of any kind, by splits.

    The splits are those of a data set that `sparseclip data build` wrote, those of a saved
    DatasetDict, or folders that are named `train`,
    `test` and the like. Data without splits have two, `train` and
    `held_out`, and `all` for both together.
    """

    def __init__(
        self,
        path: Path,
        *,
        kind: str = AUTO,
        columns: Columns | None = None,
        held_out: HeldOutRule = "auto",
    ) -> None:
        """Raises DataError when there are no such data, or PluginError for an unknown kind."""
        self.path, self._kind, self._rule = Path(os.path.abspath(path)), kind, held_out
        self.columns = columns or Columns()
        path = self.path
        self.name = printable(path.name)
        self.is_built = _is_built(path)
        self._folders = [] if self.is_built else split_folders(path)

    def held_out_by(self, rule: HeldOutRule) -> PairData:
        """The same data under another rule, such as that of the run that was trained on them."""
        return PairData(self.path, kind=self._kind, columns=self.columns, held_out=rule)

    @property
    def has_splits(self) -> bool:
        """Whether the data have splits of their own."""
        return self.is_built or bool(self._folders)

    @cached_property
    def kind(self) -> str:
        """The kind, as PAIR_SOURCES names it; `built` for what `sparseclip data build` wrote."""
        if self.is_built:
            return "built"
        path = self.path / self._folders[0] if self._folders else self.path
        return detect_kind(path) if self._kind == AUTO else self._kind

    @property
    def splits(self) -> list[str]:
        """Names of the splits, without `all`."""
        if self.is_built:
            return list(read_index(self.path)["splits"])
        return self._folders or [TRAIN, HELD_OUT]

    def split(self, name: str) -> PairSplit:
        """Opens one split. Raises DataError for a name that is not there, or unknown data."""
        if name not in self.splits and (name != ALL or self.has_splits):
            raise DataError(
                f"data.split: {self.name} has no split {name!r}{closest(name, self.splits)};"
                f" it has {', '.join(self.splits)}"
            )
        if self.is_built:
            shards = [shard.file for shard in shards_of(self.path, name)]
            return PairSplit(data=self.name, name=name, source=TarPairs(self.path, shards))
        if self._folders:
            return PairSplit(data=self.name, name=name, source=self._open(self.path / name))
        if name == ALL:
            return PairSplit(data=self.name, name=name, source=self._source)
        side: Side = "train" if name == TRAIN else "held_out"
        return PairSplit(
            data=self.name, name=name, source=self._source, side=side, sides=self.sides
        )

    @cached_property
    def held_out_rule(self) -> HeldOutRule:
        """The rule by which pairs are held out: `groups` or `image`, of data without splits."""
        if self._rule != "auto":
            return self._rule
        return "groups" if self.stamp.bytes <= MAX_GROUPED_BYTES else "image"

    @cached_property
    def stamp(self) -> DataStamp:
        """What the data are, as far as their files tell without being read."""
        columns = (self.columns.image, self.columns.caption)
        return DataStamp.of(self.path, self.kind, *columns)

    @cached_property
    def sides(self) -> Sides:
        """The sides of the pairs of data without splits. With the rule `groups` all pairs are read
        for it, once: see read_records. Raises DataError."""
        if self.held_out_rule != "groups":
            if self._rule == "auto":
                size = self.stamp.bytes / 2**30
                log.info(
                    "%s: %.0f GiB are too many to look for images that look alike: pairs are held"
                    " out by their image alone. data.held_out=groups reads all of them once",
                    self.name,
                    size,
                )
            return Sides()
        records = read_records(self._source, self.stamp, self.name)
        links = Links.of(records, captions_are_labels=self.captions_are_labels)
        sides = links.sides()
        if sides.counts is not None:
            log.info("%s: %s", self.name, sides.counts.summary())
        return sides

    @property
    def captions_are_labels(self) -> bool:
        """Whether captions are names of classes, so that equal ones say nothing of a pair."""
        return self.kind == "classes"

    @cached_property
    def _source(self) -> PairSource:
        return self._open(self.path)

    def _open(self, path: Path) -> PairSource:
        return open_source(path, self.columns, self._kind)


def _is_built(path: Path) -> bool:
    """Whether `sparseclip data build` wrote this folder, or began to."""
    if not (path / INDEX).is_file():
        return (path / RECEIPTS).is_dir()
    try:
        return "schema" in read_json(path / INDEX)
    except DataError:
        return False
