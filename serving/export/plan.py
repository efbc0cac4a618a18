"""The plan: an input's entries cut into shards, each named by what it holds."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from bundle.schema import SchemaError, from_dict
from serving.export.inputs.base import Input, InputEntry
from serving.export.job import ExportError, Job
from serving.storage.location import Place

PLAN, MADE = "plan", "made.json"
_PART = re.compile(r"part-\d{6,}\.parquet")
GROUPS = 256
"""Shards of a file of the plan."""


class Shard(NamedTuple):
    """A run of the plan's entries."""

    number: int
    entries: list[InputEntry]
    digest: str
    """sha256 of the entries."""


class Totals(NamedTuple):
    """What a plan is, in short."""

    entries: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a plan was made of, as `plan/made.json` keeps it where that saves listing it again."""

    files: str
    """Digest of the input's files and their stamps."""
    entries: int
    plan: str
    """The plan's digest."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The entries of an export as Parquet files, a row group a shard: any of it is read alone, and
    no file's list of row groups grows with the export."""

    place: Place
    shards: int
    entries: int

    @classmethod
    def of(cls, output: Place, job: Job) -> Plan:
        """The plan of an export's folder."""
        shards = -(-job.entries // job.outputs.rows)
        return cls(place=output.at(PLAN), shards=shards, entries=job.entries)

    def shard(self, number: int) -> Shard:
        """One shard. Raises ExportError when the plan cannot be read."""
        import pyarrow
        import pyarrow.parquet as parquet

        place = self.place.at(_name(number // GROUPS))
        try:
            with place.open() as stream:
                # A thread of Arrow's that frees a buffer of Python's at exit aborts the process.
                file = parquet.ParquetFile(stream)
                columns = file.read_row_group(number % GROUPS, use_threads=False).to_pydict()
            entries = list(map(InputEntry, *(columns[name] for name in InputEntry._fields)))
        except (OSError, KeyError, pyarrow.ArrowException):
            told = f"{PLAN}/{place.name}: missing or damaged; export to a new folder"
            raise ExportError(told) from None
        return Shard(number, entries, digest_of(entries))


def write_plan(source: Input, output: Place, rows: int) -> Totals:
    """Lists an input and writes the plan, the entries of a shard in memory at a time."""
    import pyarrow
    import pyarrow.parquet as parquet

    schema = pyarrow.schema([(name, pyarrow.string()) for name in InputEntry._fields])
    shards = itertools.count()
    with contextlib.ExitStack() as file:
        writer: Any = None

        def keep(entries: list[InputEntry]) -> None:
            nonlocal writer
            number = next(shards)
            if number % GROUPS == 0:
                file.close()
                place = output.at(PLAN).at(_name(number // GROUPS))
                stream = file.enter_context(place.create())
                writer = parquet.ParquetWriter(stream, schema, compression="zstd")
                file.enter_context(writer)
            columns: Any = dict(zip(InputEntry._fields, zip(*entries, strict=True), strict=True))
            writer.write_table(pyarrow.table(columns, schema=schema), row_group_size=rows)

        totals = totals_of(source, rows, keep)
    if source.files:
        made = Made(files=_digest_of(source), entries=totals.entries, plan=totals.digest)
        output.at(PLAN).at(MADE).write(json.dumps(asdict(made), indent=1).encode())
    return totals


def known_totals(source: Input, output: Place) -> Totals | None:
    """What the plan of an input is, without a listing of its entries, if the plan that is written
    was made of the same files."""
    try:
        made = from_dict(Made, json.loads(output.at(PLAN).at(MADE).read()), at="")
    except (OSError, ValueError, SchemaError):
        return None
    return Totals(made.entries, made.plan) if made.files == _digest_of(source) else None


def is_plan_file(name: str) -> bool:
    """Whether a file of the plan's folder is called so."""
    return name == MADE or _PART.fullmatch(name) is not None


def _digest_of(source: Input) -> str:
    return digest_of([InputEntry(type(source).__name__, *file) for file in source.files.items()])


def _name(file: int) -> str:
    return f"part-{file:06d}.parquet"


def totals_of(
    source: Input, rows: int, keep: Callable[[list[InputEntry]], None] = lambda entries: None
) -> Totals:
    """What the plan of an input is; `keep` gets the entries of each shard."""
    count, total = 0, hashlib.sha256()
    for entries in _cut(source.entries(), rows):
        count += len(entries)
        total.update(digest_of(entries).encode())
        keep(entries)
    return Totals(count, total.hexdigest())


def digest_of(entries: list[InputEntry]) -> str:
    """sha256 of entries: ids, sources and stamps."""
    total = hashlib.sha256()
    for entry in entries:
        for part in entry:
            data = part.encode("utf-8", "surrogatepass")
            total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()


def _cut(entries: Iterator[InputEntry], rows: int) -> Iterator[list[InputEntry]]:
    while part := list(itertools.islice(entries, rows)):
        yield part
