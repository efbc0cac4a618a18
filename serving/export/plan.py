"""The plan: an input's entries cut into shards, each identified by what it holds."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet as parquet

from bundle.schema import SchemaError, from_dict
from serving.export.inputs.base import Input, InputEntry
from serving.export.job import ExportError, ExportJob
from serving.storage.left_out import LeftOut
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
    generation: int
    content: str
    """Digest of the job and the entries. The names of the shard's files begin with it, so that
    files of another job are never taken for these."""


class PlanSummary(NamedTuple):
    """What tells one plan from another."""

    entries: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class InputListing:
    """What an input held when a plan was made of it, as `plan/made.json` keeps it."""

    files: str
    """Digest of the names and fingerprints of the input's files: while these are the same, so are
    the entries. Empty when each entry is a file."""
    entries: int
    left_out: dict[str, int]
    """What was found and is no entry, by reason. It may change without changing the plan."""
    sha256: str = ""
    """Of all other fields."""

    @property
    def digest(self) -> str:
        """What `sha256` must be."""
        fields = asdict(self) | {"sha256": ""}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def save(self, folder: Location) -> None:
        """Writes it beside the plan of the job in `folder`."""
        listing = replace(self, sha256=self.digest)
        folder.at(PLAN).at(LISTING).write(json.dumps(asdict(listing), indent=1).encode())

    @classmethod
    def load(cls, folder: Location) -> InputListing | None:
        """The one beside the plan of the job in `folder`; None when it is missing or altered."""
        try:
            listing = from_dict(cls, json.loads(folder.at(PLAN).at(LISTING).read()), at="")
        except (OSError, ValueError, SchemaError):
            return None
        return listing if listing.sha256 == listing.digest else None


@dataclass(frozen=True, kw_only=True)
class ExportPlan:
    """The entries of an export as Parquet files with one row group for each shard. Each shard can
    be read alone, and no file's list of row groups grows with the export."""

    folder: Location
    job: ExportJob

    @property
    def numbers(self) -> range:
        """The numbers of its shards; no two generations of an export share one."""
        first = self.job.first_shard
        return range(first, first + self.job.shards)

    def shard(self, number: int) -> Shard:
        """Reads one shard. Raises ExportError when the plan cannot be read."""
        index = number - self.job.first_shard
        file = self.folder.at(_file_name(index // SHARDS_PER_FILE))
        [entries] = _read_shards(file, [index % SHARDS_PER_FILE])
        digest = digest_entries(entries)
        content = hashlib.sha256(f"{self.job.digest} {number} {digest}".encode()).hexdigest()
        return Shard(number, entries, self.job.generation, content)


def write_plan(entries: Iterable[InputEntry], folder: Location, rows: int) -> PlanSummary:
    """Writes the plan of a job in its folder. One shard's entries are in memory at a time. Raises
    ExportError when another process writes another plan there."""
    numbers, digests, count = itertools.count(), hashlib.sha256(), 0
    remaining, plan = iter(entries), folder.at(PLAN)
    while first := list(itertools.islice(remaining, rows)):
        stream = io.BytesIO()
        file_shards = itertools.islice(_cut(remaining, rows), SHARDS_PER_FILE - 1)
        with parquet.ParquetWriter(stream, _SCHEMA, compression="zstd") as writer:
            for shard in itertools.chain([first], file_shards):
                columns: Any = dict(zip(COLUMNS, zip(*shard, strict=True), strict=True))
                writer.write_table(pyarrow.table(columns, schema=_SCHEMA), row_group_size=rows)
                digests.update(digest_entries(shard).encode())
                count += len(shard)
        _write_alone(plan.at(_file_name(next(numbers))), stream.getvalue())
    return PlanSummary(count, digests.hexdigest())


def sum_up_plan(folder: Location) -> PlanSummary:
    """The plan of a job as its files are now, without the job. Raises ExportError."""
    digests, count = hashlib.sha256(), 0
    for name in folder.at(PLAN).names():
        if _FILE_NAME.fullmatch(name):
            file = folder.at(f"{PLAN}/{name}")
            for shard in _read_shards(file):
                digests.update(digest_entries(shard).encode())
                count += len(shard)
    return PlanSummary(count, digests.hexdigest())


def _read_shards(file: Location, groups: Sequence[int] | None = None) -> Iterator[list[InputEntry]]:
    """The entries of some shards of a file of the plan, or of all. Raises ExportError."""
    try:
        with file.open() as stream:
            parquet_file = parquet.ParquetFile(stream)
            for group in range(parquet_file.num_row_groups) if groups is None else groups:
                # A thread of Arrow's that frees a buffer of Python's at exit aborts the process.
                columns = parquet_file.read_row_group(group, use_threads=False).to_pydict()
                yield list(map(InputEntry, *(columns[name] for name in COLUMNS)))
    except (OSError, KeyError, pyarrow.ArrowException):
        raise ExportError(
            f"{PLAN}/{file.name}: missing or damaged; export to a new folder"
        ) from None


def _cut(entries: Iterator[InputEntry], rows: int) -> Iterator[list[InputEntry]]:
    while shard := list(itertools.islice(entries, rows)):
        yield shard


def _write_alone(file: Location, data: bytes) -> None:
    """Writes a file of a plan. On an object store, where nothing can be locked, another process may
    be writing another plan: the first one stays."""
    if file.is_local:
        file.write(data)
    elif not file.write_new(data) and file.read() != data:
        raise ExportError(
            f"{PLAN}/{file.name}: of another export that is being begun here, or was killed before "
            "it had begun. Choose another output, or remove this folder"
        )


def remove_plan(folder: Location) -> None:
    """Removes what a process wrote that was killed before it wrote the job. The caller makes sure
    that there is no job."""
    plan = folder.at(PLAN)
    for name in plan.names() if folder.is_local else ():
        if is_plan_file(name):
            plan.at(name).remove()


def input_entries(source: Input, prefix: str, left_out: LeftOut) -> Iterator[InputEntry]:
    """The entries of an input as its export names them."""
    for entry in source.entries(left_out):
        yield entry._replace(id=prefix + entry.id) if prefix else entry


def nothing_found(left_out: Mapping[str, int]) -> str:
    """Why an input has no entries."""
    return f"nothing to export in INPUT; left out: {LeftOut(left_out) or 'nothing'}"


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


def digest_files(source: Input) -> str:
    """Digest of the names and fingerprints of files that hold many entries each; empty when each
    entry is a file."""
    # The class's name is part of the digest on the disk: a class that is renamed lists its input
    # again when an older export is resumed.
    if not source.files:
        return ""
    kind = type(source).__name__
    return digest_entries([InputEntry(kind, *file) for file in source.files.items()])


def _file_name(number: int) -> str:
    return f"part-{number:06d}.parquet"
