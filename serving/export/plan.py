"""The plan: an input's entries cut into shards, each identified by what it holds."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet as parquet

from bundle.schema import SchemaError, from_dict
from serving.export.inputs.base import EmptyInputError, Input, InputEntry, LeftOut
from serving.export.job import ExportError, ExportJob
from serving.storage.location import Location

PLAN = "plan"
LISTING = "made.json"
COLUMNS = ("id", "source", "stamp", "problem")
"""Columns of the plan's files, for the fields of InputEntry."""
SHARDS_PER_FILE = 256
_FILE_NAME = re.compile(r"part-\d{6,}\.parquet")
_SCHEMA = pyarrow.schema([(name, pyarrow.string()) for name in COLUMNS])


class Shard(NamedTuple):
    """Entries of the plan that follow one another, and make one data file."""

    number: int
    entries: list[InputEntry]
    digest: str
    """sha256 of the entries."""


class PlanSummary(NamedTuple):
    """What tells one plan from another, and what the input holds besides."""

    entries: int
    digest: str
    left_out: Mapping[str, int] = MappingProxyType({})
    """What was found and is no entry, by reason. It may change without changing the plan."""


@dataclass(frozen=True, kw_only=True)
class InputListing:
    """What a plan was made from, as `plan/made.json` keeps it. While the input's files are the
    same, its entries need not be listed again."""

    files: str
    """Digest of the names and fingerprints of the input's files; empty when each entry is a
    file."""
    entries: int
    plan: str
    """The plan's digest."""
    left_out: dict[str, int] = field(default_factory=dict)
    """What was found and is no entry, by reason."""


@dataclass(frozen=True, kw_only=True)
class ExportPlan:
    """The entries of an export as Parquet files with one row group for each shard. Each shard can
    be read alone, and no file's list of row groups grows with the export."""

    folder: Location
    shards: int
    entries: int

    @classmethod
    def open(cls, output: Location, job: ExportJob) -> ExportPlan:
        """The plan of an export's folder."""
        shards = -(-job.entries // job.outputs.rows)
        return cls(folder=output.at(PLAN), shards=shards, entries=job.entries)

    def shard(self, number: int) -> Shard:
        """Reads one shard. Raises ExportError when the plan cannot be read."""
        file = self.folder.at(_file_name(number // SHARDS_PER_FILE))
        group = number % SHARDS_PER_FILE
        try:
            with file.open() as stream:
                parquet_file = parquet.ParquetFile(stream)
                # A thread of Arrow's that frees a buffer of Python's at exit aborts the process.
                columns = parquet_file.read_row_group(group, use_threads=False).to_pydict()
            columns.setdefault("problem", [""] * len(columns["id"]))  # of an older version
            entries = list(map(InputEntry, *(columns[name] for name in COLUMNS)))
        except (OSError, KeyError, pyarrow.ArrowException):
            raise ExportError(
                f"{PLAN}/{file.name}: missing or damaged; export to a new folder"
            ) from None
        return Shard(number, entries, digest_entries(entries))


def write_plan(
    source: Input, output: Location, rows: int, *, allow_empty: bool = False
) -> PlanSummary:
    """Lists an input and writes the plan. One shard's entries are in memory at a time.

    Raises EmptyInputError, with nothing written, for an input without entries, unless
    `allow_empty`.
    """
    numbers = itertools.count()
    with contextlib.ExitStack() as open_file:
        writer: Any = None

        def keep(entries: list[InputEntry]) -> None:
            nonlocal writer
            number = next(numbers)
            if number % SHARDS_PER_FILE == 0:
                open_file.close()  # the file before this one
                file = output.at(PLAN).at(_file_name(number // SHARDS_PER_FILE))
                stream = open_file.enter_context(file.create())
                writer = parquet.ParquetWriter(stream, _SCHEMA, compression="zstd")
                open_file.enter_context(writer)
            columns: Any = dict(zip(COLUMNS, zip(*entries, strict=True), strict=True))
            writer.write_table(pyarrow.table(columns, schema=_SCHEMA), row_group_size=rows)

        summary = list_entries(source, rows, keep)
    if not summary.entries and not allow_empty:
        raise EmptyInputError(nothing_found(summary.left_out))
    listing = InputListing(
        files=_digest_files(source),
        entries=summary.entries,
        plan=summary.digest,
        left_out=dict(summary.left_out),
    )
    output.at(PLAN).at(LISTING).write(json.dumps(asdict(listing), indent=1).encode())
    return summary


def nothing_found(left_out: Mapping[str, int]) -> str:
    """Why an input has no entries."""
    return f"nothing to export in INPUT; left out: {LeftOut(left_out) or 'nothing'}"


def read_listing(source: Input, output: Location) -> PlanSummary | None:
    """The summary of the plan that was written, if it was made from the same files as the input has
    now; else None."""
    listing = _listing(output)
    if listing is None or not listing.files or listing.files != _digest_files(source):
        return None
    return PlanSummary(listing.entries, listing.plan, listing.left_out)


def read_left_out(output: Location) -> Mapping[str, int]:
    """What was found when the plan was written and is no entry, by reason."""
    listing = _listing(output)
    return listing.left_out if listing else {}


def _listing(output: Location) -> InputListing | None:
    try:
        data = json.loads(output.at(PLAN).at(LISTING).read())
        return from_dict(InputListing, data, at="")
    except (OSError, ValueError, SchemaError):
        return None


def list_entries(
    source: Input, rows: int, keep: Callable[[list[InputEntry]], None] = lambda entries: None
) -> PlanSummary:
    """The summary of the plan that an input has now. `keep` is called with each shard's entries."""
    count, digests, left_out = 0, hashlib.sha256(), LeftOut()
    entries = source.entries(left_out)
    while shard := list(itertools.islice(entries, rows)):
        count += len(shard)
        digests.update(digest_entries(shard).encode())
        keep(shard)
    return PlanSummary(count, digests.hexdigest(), dict(left_out))


def digest_entries(entries: list[InputEntry]) -> str:
    """sha256 of all that the entries are. Each text is preceded by its length, so that no two
    lists of entries give the same bytes."""
    total = hashlib.sha256()
    for entry in entries:
        *texts, problem = entry
        for text in texts:
            total.update(_with_length(text))
        if problem:  # after what cannot be a length
            total.update(b"\xff" * 8 + _with_length(problem))
    return total.hexdigest()


def _with_length(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(8, "little") + data


def is_plan_file(name: str) -> bool:
    """Whether a file of the plan's folder can have this name."""
    return name == LISTING or _FILE_NAME.fullmatch(name) is not None


def _digest_files(source: Input) -> str:
    # The class's name is part of the digest on the disk: a class that is renamed lists its input
    # again when an older export is resumed.
    if not source.files:
        return ""
    kind = type(source).__name__
    return digest_entries([InputEntry(kind, *file) for file in source.files.items()])


def _file_name(number: int) -> str:
    return f"part-{number:06d}.parquet"
