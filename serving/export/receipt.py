"""Finished shards: their files, each written whole, and a receipt that says what is in them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from bundle.schema import SchemaError, from_dict
from serving.export.columns import ShardTables
from serving.export.formats.base import ExportFormat, ShardFiles
from serving.export.formats.parquet_format import parquet_bytes
from serving.export.plan import Shard
from serving.storage.location import Location

DATA, QUARANTINE, RECEIPTS = "data", "quarantine", "receipts"


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """What a file of a shard must be."""

    sha256: str
    bytes: int


class DamagedReceiptError(ValueError):
    """A receipt that says nothing; the message is one word why."""


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What a finished shard is. It is written after the shard's files, and depends on nothing but
    the job and the entries."""

    shard: int
    content: str
    """Digest of the job and the shard's entries. The names of its files begin with it, so that
    files of another job are never taken for these."""
    rows: int
    quarantined: int
    files: dict[str, FileInfo]
    """By path, relative to the export's folder."""
    sha256: str = ""
    """Of all other fields: a receipt that was altered does not match it."""

    @property
    def digest(self) -> str:
        """What `sha256` must be."""
        fields = dataclasses.asdict(self) | {"sha256": ""}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    @property
    def entries(self) -> int:
        """Entries of the shard."""
        return self.rows + self.quarantined

    def to_json(self) -> bytes:
        """Equal receipts give equal bytes."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True).encode()


def commit_shard(
    output: Location, shard: Shard, tables: ShardTables, export_format: ExportFormat
) -> Receipt:
    """Writes a shard's files and then its receipt. Killed at any moment, the shard is either
    finished or not. Raises LocationError."""
    stem = shard_stem(shard)
    contents = {
        f"{DATA}/{name}": data for name, data in export_format.files(tables.rows, stem).items()
    }
    if tables.quarantine.num_rows:
        contents[f"{QUARANTINE}/{stem}.parquet"] = parquet_bytes(tables.quarantine)
    files: dict[str, FileInfo] = {}
    for path, data in contents.items():
        output.at(path).write(data)
        files[path] = FileInfo(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    receipt = Receipt(
        shard=shard.number,
        content=shard.content,
        rows=tables.rows.num_rows,
        quarantined=tables.quarantine.num_rows,
        files=files,
    )
    receipt = dataclasses.replace(receipt, sha256=receipt.digest)
    receipt_file(output, shard.number).write(receipt.to_json())
    return receipt


def data_files(receipt: Receipt) -> ShardFiles:
    """The files of a shard in the data folder."""
    sizes = {
        path.removeprefix(f"{DATA}/"): info.bytes
        for path, info in receipt.files.items()
        if path.startswith(f"{DATA}/")
    }
    return ShardFiles(rows=receipt.rows, sizes=sizes)


def quarantine_files(receipt: Receipt) -> list[str]:
    """The files of a shard's quarantine, relative to the export's folder."""
    return [path for path in receipt.files if path.startswith(f"{QUARANTINE}/")]


def file_stem(number: int) -> str:
    """How the names of a shard's files begin."""
    return f"part-{number:06d}"


def shard_stem(shard: Shard) -> str:
    """How the names of a shard's files begin, and those of no other shard or job."""
    return f"{file_stem(shard.number)}-{shard.content[:16]}"


def receipt_name(number: int) -> str:
    """The name of a shard's receipt, in the export's folder."""
    return f"{RECEIPTS}/{file_stem(number)}.json"


def receipt_file(output: Location, number: int) -> Location:
    """The file of a shard's receipt."""
    return output.at(receipt_name(number))


def read_receipt(output: Location, number: int) -> Receipt | None:
    """A shard's receipt; None when there is none. Raises DamagedReceiptError."""
    try:
        data = receipt_file(output, number).read()
    except FileNotFoundError:
        return None
    except OSError:
        raise DamagedReceiptError("cannot be read") from None
    try:
        receipt = from_dict(Receipt, json.loads(data), at="")
    except (ValueError, SchemaError):
        raise DamagedReceiptError("damaged") from None
    if receipt.sha256 != receipt.digest or receipt.shard != number:
        raise DamagedReceiptError("altered")
    return receipt


def count_unfinished(output: Location, shards: int) -> int:
    """How many of an export's shards have no receipt yet; 1 when all have one, as a shard may still
    have to be made again."""
    return max(1, shards - len(set(output.at(RECEIPTS).names())))


def find_file_problems(output: Location, shard: Shard, receipt: Receipt) -> Iterator[str]:
    """Reads all files of a shard, and yields a line for everything that its receipt says and they
    are not."""
    if receipt.content != shard.content:
        yield f"{receipt_name(shard.number)}: of another job or other entries"
        return
    for path, info in receipt.files.items():
        problem = _file_problem(output.at(path), info)
        if problem:
            yield f"{path}: {problem}"


def _file_problem(file: Location, info: FileInfo) -> str:
    try:
        data = file.read()
    except OSError:
        return "missing"
    if len(data) != info.bytes:
        return "of another size"
    return "" if hashlib.sha256(data).hexdigest() == info.sha256 else "altered"
