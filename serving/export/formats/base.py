"""The contract of a format: a shard's rows as files, and what joins all shards into one whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from serving.storage.location import Location


@dataclass(frozen=True, kw_only=True)
class ShardFiles:
    """The data files of a finished shard."""

    rows: int
    """Rows in all of them."""
    sizes: Mapping[str, int]
    """Bytes of each file, by its name in the data folder."""
    ended: tuple[int, ...] = ()
    """The numbers of rows that updates ended, ascending; empty unless the format marks them."""


class ExportFormat(Protocol):
    """Made without arguments. Equal rows must give equal bytes: an export that was killed and
    resumed is compared with one that was not."""

    @property
    def extra(self) -> frozenset[str]:
        """Names in the data folder that `finish` writes."""

    @property
    def marks_ended(self) -> bool:
        """Whether `finish` marks rows that updates ended, so that the format's own readers leave
        them out."""

    def files(self, table: Any, stem: str) -> dict[str, bytes]:
        """The files of a shard's rows (a pyarrow.Table), by their names in the data folder. Each
        name begins with `stem`."""

    def read(
        self, data: Location, names: Sequence[str], columns: Sequence[str], rows: int
    ) -> Iterator[Any]:
        """Some columns of one shard as pyarrow.RecordBatch of at most `rows` rows, in the order in
        which they were written. `names` are the shard's files in the data folder."""

    def finish(self, data: Location, schema: Any, shards: Sequence[ShardFiles]) -> None:
        """Writes what lets readers open all shards as one, once they are in the data folder.
        `schema` is the pyarrow.Schema that all of them have."""

    def find_problems(self, data: Location, shards: Sequence[ShardFiles]) -> Iterator[str]:
        """One line for everything of `finish` that is missing or altered."""
