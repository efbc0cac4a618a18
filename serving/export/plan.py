"""The plan: an input's entries cut into shards, each named by what it holds."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from serving.export.inputs.base import Entry, Input
from serving.export.job import ExportError
from serving.export.place import Place

PLAN = "plan.parquet"


class Shard(NamedTuple):
    """A run of the plan's entries."""

    number: int
    entries: list[Entry]
    digest: str
    """sha256 of the entries."""


class Totals(NamedTuple):
    """What a plan is, in short."""

    entries: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The entries of an export as a Parquet file, a row group a shard: any of it is read alone."""

    place: Place
    shards: int
    entries: int

    def shard(self, number: int) -> Shard:
        """One shard."""
        import pyarrow.parquet as parquet

        with self.place.fs.open(self.place.path, "rb") as stream:
            columns = parquet.ParquetFile(stream).read_row_group(number).to_pydict()
        entries = list(map(Entry, *(columns[name] for name in Entry._fields)))
        return Shard(number, entries, digest_of(entries))

    @classmethod
    def open(cls, output: Place) -> Plan:
        """The plan of an export's folder. Raises ExportError when it cannot be read."""
        import pyarrow
        import pyarrow.parquet as parquet

        place = output.at(PLAN)
        try:
            with place.fs.open(place.path, "rb") as stream:
                metadata = parquet.read_metadata(stream)
        except (OSError, pyarrow.ArrowException):
            raise ExportError(f"{PLAN}: missing or damaged; export to a new folder") from None
        return cls(place=place, shards=metadata.num_row_groups, entries=metadata.num_rows)


def write_plan(source: Input, output: Place, rows: int) -> Totals:
    """Lists an input and writes the plan, a shard's entries in memory at a time."""
    import pyarrow
    import pyarrow.parquet as parquet

    schema = pyarrow.schema([(name, pyarrow.string()) for name in Entry._fields])
    with (
        output.at(PLAN).create() as stream,
        parquet.ParquetWriter(stream, schema, compression="zstd") as writer,
    ):

        def keep(entries: list[Entry]) -> None:
            columns: Any = dict(zip(Entry._fields, zip(*entries, strict=True), strict=True))
            writer.write_table(pyarrow.table(columns, schema=schema), row_group_size=rows)

        return totals_of(source, rows, keep)


def totals_of(
    source: Input, rows: int, keep: Callable[[list[Entry]], None] = lambda entries: None
) -> Totals:
    """What the plan of an input is; `keep` gets the entries of each shard."""
    count, total = 0, hashlib.sha256()
    for entries in _cut(source.entries(), rows):
        count += len(entries)
        total.update(digest_of(entries).encode())
        keep(entries)
    return Totals(count, total.hexdigest())


def digest_of(entries: list[Entry]) -> str:
    """sha256 of entries: ids, sources and stamps."""
    total = hashlib.sha256()
    for entry in entries:
        for part in entry:
            data = part.encode("utf-8", "surrogatepass")
            total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()


def _cut(entries: Iterator[Entry], rows: int) -> Iterator[list[Entry]]:
    while part := list(itertools.islice(entries, rows)):
        yield part
