"""The contract of an input: a list of entries in a fixed order, and what each of them holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

Modality = Literal["image", "text"]


class InputError(ValueError):
    """An input that cannot be exported; the message says why."""


class Entry(NamedTuple):
    """One row of the export to be."""

    id: str
    source: str
    """Where it is, as the input finds it again."""
    stamp: str
    """Changes when what is there changes."""


class Unread(NamedTuple):
    """An entry that could not be read, and why."""

    reason: str


Content = bytes | str | Unread
"""An encoded image, a text, or neither."""


class Input(Protocol):
    """What is exported."""

    @property
    def modality(self) -> Modality:
        """What its entries are."""

    @property
    def files(self) -> Mapping[str, str]:
        """Names and stamps of files that hold many entries each, which are the same while these
        are; none where an entry is a file."""

    def entries(self) -> Iterator[Entry]:
        """All of it, in an order that depends on nothing but the input. Raises InputError."""

    def read(self, entries: Sequence[Entry]) -> Iterator[Content]:
        """What chosen entries hold, in their order. What goes wrong with one costs that one."""
