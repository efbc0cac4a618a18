"""Finished shards: their files, written whole, and a receipt that vouches for them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from bundle.schema import SchemaError, from_dict
from serving.export.columns import Tables
from serving.export.formats.base import ExportFormat, ShardFiles
from serving.export.formats.parquet_format import parquet_bytes
from serving.export.plan import Shard
from serving.storage.location import Place

DATA, QUARANTINE, RECEIPTS = "data", "quarantine", "receipts"


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """A file of a shard."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What a finished shard is: written last, it depends on nothing but job and entries."""

    shard: int
    content: str
    """Digest of the job and the shard's entries; part of its files' names."""
    rows: int
    quarantined: int
    files: dict[str, FileInfo]
    """By name, relative to the export's folder."""

    def to_json(self) -> bytes:
        """As JSON, one spelling."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True).encode()


def content_of(job: str, shard: Shard) -> str:
    """The digest of a shard under a job's digest."""
    return hashlib.sha256(f"{job} {shard.number} {shard.digest}".encode()).hexdigest()


def commit(output: Place, job: str, shard: Shard, tables: Tables, form: ExportFormat) -> Receipt:
    """Writes a shard's files and then its receipt. Killed at any moment, the shard is either
    finished or not."""
    content = content_of(job, shard)
    name = f"{stem(shard.number)}-{content[:16]}"
    made = {f"{DATA}/{file}": data for file, data in form.files(tables.rows, name).items()}
    if tables.quarantine.num_rows:
        made[f"{QUARANTINE}/{name}.parquet"] = parquet_bytes(tables.quarantine)
    files: dict[str, FileInfo] = {}
    for file, data in made.items():
        output.at(file).write(data)
        files[file] = FileInfo(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    receipt = Receipt(
        shard=shard.number,
        content=content,
        rows=tables.rows.num_rows,
        quarantined=tables.quarantine.num_rows,
        files=files,
    )
    receipt_place(output, shard.number).write(receipt.to_json())
    return receipt


def data_files(receipt: Receipt) -> ShardFiles:
    """The files of a shard in the data folder."""
    sizes = {
        name.removeprefix(f"{DATA}/"): info.bytes
        for name, info in receipt.files.items()
        if name.startswith(f"{DATA}/")
    }
    return ShardFiles(rows=receipt.rows, sizes=sizes)


def stem(number: int) -> str:
    """Begins the names of a shard's files."""
    return f"part-{number:06d}"


def receipt_place(output: Place, number: int) -> Place:
    """Where a shard's receipt is."""
    return output.at(f"{RECEIPTS}/{stem(number)}.json")


def read_receipt(output: Place, number: int) -> Receipt | None:
    """A shard's receipt; None when there is none that can be read."""
    try:
        return from_dict(Receipt, json.loads(receipt_place(output, number).read()), at="")
    except (OSError, ValueError, SchemaError):
        return None


def problems_of(output: Place, job: str, shard: Shard, receipt: Receipt) -> Iterator[str]:
    """What is wrong with a shard that has a receipt, a line each; its files are read."""
    if receipt.content != content_of(job, shard):
        yield f"{receipt_place(output, shard.number).name}: of another job or other entries"
        return
    for name, info in receipt.files.items():
        problem = _problem_of(output.at(name), info)
        if problem:
            yield f"{name}: {problem}"


def _problem_of(place: Place, info: FileInfo) -> str:
    try:
        data = place.read()
    except OSError:
        return "missing"
    if len(data) != info.bytes:
        return "of another size"
    return "" if hashlib.sha256(data).hexdigest() == info.sha256 else "altered"
