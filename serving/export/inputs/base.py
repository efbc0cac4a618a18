"""The contract of an input: a list of entries in a fixed order, and what each of them holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple, Protocol, Self

from bundle.image import ImageLimits
from bundle.image_formats import IMAGE_SUFFIXES, UNSUPPORTED_IMAGE_SUFFIXES
from serving.storage.left_out import LeftOut as LeftOut
from serving.storage.location import Location

Modality = Literal["image", "text"]

IMAGE_NAMES = (*IMAGE_SUFFIXES, *UNSUPPORTED_IMAGE_SUFFIXES)
"""Endings of the names of images, in lower case. A file that has one is an entry, whether its
format is decoded or not."""
TAR_NAMES = (".tar", ".tar.gz", ".tgz")
TABLE_NAMES = (".parquet", ".arrow", ".feather", ".ipc")

CHANGED = "changed since it was listed"
CUT_SHORT = "cut short"
EMPTY = "image: must not be empty"
EMPTY_FILE = "empty"
"""Of a file that would hold many entries."""
UNREADABLE = "cannot be read"


class InputError(ValueError):
    """An input that cannot be exported; the message says why."""


class EmptyInputError(InputError):
    """An input without entries."""


class InputEntry(NamedTuple):
    """One row of the export to be, or of its quarantine."""

    id: str
    """No two entries of an input have the same."""
    source: str
    """Where the entry is, as the input finds it again."""
    fingerprint: str
    """Changes when the file that holds the entry changes: its size, and its version or time of
    change. Empty when it is not to be compared."""
    problem: str = ""
    """Why the entry goes into quarantine without being read; empty for one that is read."""


class Unreadable(NamedTuple):
    """An entry that could not be read, and why."""

    reason: str


Content = bytes | str | Unreadable
"""An encoded image, a text, or neither."""


class Input(Protocol):
    """A collection of images or texts, as a list of entries."""

    has_columns: ClassVar[bool]
    """Whether a user names the column to export, and may name one of ids."""

    @classmethod
    def open(cls, location: Location, column: str = "", id_column: str = "") -> Self:
        """Opens a file or a folder that is there. The columns are empty unless the user named some,
        and always where `has_columns` is false.

        Raises InputError when the location is not of this kind, or has no such column.
        """

    @property
    def modality(self) -> Modality:
        """Whether its entries are images or texts."""

    @property
    def files(self) -> Mapping[str, str]:
        """Names and fingerprints of files that hold many entries each. While these are the same, so
        are the entries, and they are not listed again. Empty when each entry is a file."""

    def entries(self, left_out: LeftOut) -> Iterator[InputEntry]:
        """All entries, in an order that depends on nothing but the input, each with an id of its
        own. What is found and cannot be read is an entry with a problem. Everything else that is
        found is counted in `left_out`. Raises InputError."""

    def read(self, entries: Sequence[InputEntry]) -> Iterator[Content]:
        """What these entries hold, in their order. An entry that cannot be read gives Unreadable,
        and the others are read all the same. The entries have no `problem`."""


def is_named(name: str, endings: tuple[str, ...]) -> bool:
    """Whether a name has one of the endings, in any case of letters."""
    return name.lower().endswith(endings)


def image_size_problem(size: int) -> str:
    """Why an image of so many bytes is not read; empty when it is."""
    limit = ImageLimits().bytes
    if size > limit:
        return f"image: {size} bytes is over the limit of {limit}"
    return "" if size else EMPTY
