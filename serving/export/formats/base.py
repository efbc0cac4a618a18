"""The contract of a format: a shard's rows as files, and what makes all shards one thing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from serving.storage.location import Place

FormatName = Literal["parquet", "zarr", "lance"]


class Part(NamedTuple):
    """A finished shard."""

    rows: int
    files: Sequence[tuple[str, int]]
    """Names in the data folder, and bytes."""


class Format(Protocol):
    """Equal rows give equal bytes."""

    def files(self, table: Any, stem: str) -> dict[str, bytes]:
        """The files of a shard's rows (a pyarrow.Table), by their names in the data folder, each of
        which begins with `stem`."""

    def read(
        self, data: Place, names: Sequence[str], columns: Sequence[str], rows: int
    ) -> Iterator[Any]:
        """Some columns of a shard, whose files in the data folder have these names, as
        pyarrow.RecordBatch of at most so many rows, in the order in which they were written."""

    def finish(self, data: Place, schema: Any, parts: Sequence[Part]) -> None:
        """Once all shards are in the data folder: writes what lets readers open them as one."""

    @property
    def extra(self) -> frozenset[str]:
        """Names in the data folder that `finish` writes."""

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders beside the data folder that `finish` writes in."""


def format_of(name: FormatName) -> Format:
    """The format of that name. Raises ImportError when its library is not installed."""
    if name == "zarr":
        from serving.export.formats.zarr_format import Zarr

        return Zarr()
    if name == "lance":
        from serving.export.formats.lance_format import Lance

        return Lance()
    from serving.export.formats.parquet_format import Parquet

    return Parquet()
