"""The contract of a source of pairs: pieces in a fixed order, and the pairs of each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, Self

from bundle.image import ImageLimits

MAX_IMAGE_BYTES = ImageLimits().bytes
"""A larger file is a bad pair, and is not read: serving would refuse it, too."""


class Pair(NamedTuple):
    """An image, still encoded, and its captions."""

    key: str
    """Where the pair is, unique in the source; printable."""
    image: bytes
    captions: tuple[str, ...]
    """One or more, none of them blank, as they are in the data. The first is the main one."""


class BadPair(NamedTuple):
    """A pair that cannot be learned from, and why."""

    key: str
    reason: str


class Damage(NamedTuple):
    """A piece that could not be read to its end; nobody knows how many pairs it held."""

    piece: str
    reason: str


class OtherMembers(NamedTuple):
    """Members of a tar file that belong to no pair, counted by their endings."""

    piece: str
    endings: Counter[str]


Found = Pair | BadPair | Damage | OtherMembers
"""What reading a piece gives."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of a table or list hold the pairs. Empty: those with a usual name."""

    image: str = ""
    caption: str = ""


class PairSource(Protocol):
    """A collection of pairs, cut into pieces that can be read apart from each other."""

    @classmethod
    def open(cls, path: Path, columns: Columns) -> Self:
        """Opens a file or a folder that is there. Raises DataError when it is not of this kind."""

    @property
    def pieces(self) -> Sequence[str]:
        """Names of the pieces, in an order that depends on nothing but the data."""

    @property
    def left_out(self) -> Mapping[str, int]:
        """How many files, by their endings, are beside the pairs and belong to none. `read` gives
        the members of tar files."""

    def count(self, piece: str) -> int:
        """How many pairs a piece has, good or bad. Reads no image. 0 for one that is damaged
        from its start."""

    def read(self, piece: str) -> Iterator[Found]:
        """The pairs of a piece, good and bad, in a fixed order; it ends. What cannot be read is
        given as BadPair or Damage, and never raised."""


class BadPairError(ValueError):
    """Why something in the data is no image or no caption; the message is a reason."""


def printable(name: str) -> str:
    """A file's name for keys and logs: what no terminal shows is escaped."""
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
