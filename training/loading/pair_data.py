"""The one reader of pairs: for training, evaluation, the naming of concepts and a look before."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from training.core.progress import progress_bar
from training.data.data_recipe import DataError, closest
from training.data.shards import INDEX, RECEIPTS, read_index, shards_of
from training.loading.sources import AUTO
from training.loading.sources._files import read_json
from training.loading.sources.base import Columns, Found, Pair, PairSource, printable
from training.loading.sources.detection import detect_kind, open_source, split_folders
from training.loading.sources.webdataset import TarPairs

TRAIN, HELD_OUT, ALL = "train", "held_out", "all"

HELD_OUT_OF = 20
"""One of this many pairs is held out, where the data have no splits of their own."""

Side = Literal["train", "held_out", "all"]


@dataclass(frozen=True, kw_only=True)
class PairSplit:
    """The pairs of one split."""

    data: str
    """Name of the data, for messages."""
    name: str
    source: PairSource
    side: Side = "all"
    """Which of the source's pairs these are; `all` where the whole source is the split."""
    has_sides: bool = False
    """Whether the data have no splits of their own, so that each pair has a side."""

    @property
    def pieces(self) -> Sequence[str]:
        """See PairSource.pieces."""
        return self.source.pieces

    def read(self, piece: str) -> Iterator[Found]:
        """See PairSource.read. A bad pair belongs to the side of training: nothing tells its own
        one."""
        for found in self.source.read(piece):
            if self.side == ALL or self.side == side_of(found):
                yield found

    def read_all(self) -> Iterator[Found]:
        """The pairs of all pieces, one piece after another."""
        for piece in self.pieces:
            yield from self.read(piece)

    @cached_property
    def pairs(self) -> int:
        """How many pairs, good or bad, there are. No image is read for this, so that the number of
        pairs of one side is an estimate."""
        total = 0
        with progress_bar(len(self.pieces), "file", description="counting: ", leave=False) as bar:
            for piece in self.pieces:
                total += self.source.count(piece)
                bar.update()
        held_out = round(total / HELD_OUT_OF)
        return {"train": total - held_out, "held_out": held_out, "all": total}[self.side]


def side_of(found: Found) -> Side:
    """The side of a pair: by a digest of its image, so that equal images are on one side, wherever
    they are, in every run and on every machine."""
    if not isinstance(found, Pair):
        return "train"
    digest = hashlib.sha256(found.image).digest()
    return "held_out" if int.from_bytes(digest[:8]) % HELD_OUT_OF == 0 else "train"


class PairData:
    """Data that a path names, of any kind, by splits.

    The splits are those of a data set that `sparseclip data build` wrote, those of a saved
    DatasetDict, or folders that are named `train`,
    `test` and the like. Data without splits have two, `train` and
    `held_out`, and `all` for both together.
    """

    def __init__(self, path: Path, *, kind: str = AUTO, columns: Columns | None = None) -> None:
        """Raises DataError when there are no such data, or PluginError for an unknown kind."""
        self.path, self._kind, self.columns = (
            Path(os.path.abspath(path)),
            kind,
            columns or Columns(),
        )
        path = self.path
        self.name = printable(path.name)
        self.is_built = _is_built(path)
        self._folders = [] if self.is_built else split_folders(path)

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
        side: Side = "train" if name == TRAIN else "held_out" if name == HELD_OUT else "all"
        return PairSplit(data=self.name, name=name, source=self._source, side=side, has_sides=True)

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
