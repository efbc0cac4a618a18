"""WebDataset shards: plain tar files written whole or not at all, and read back verified.

A shard is written to a temporary name, flushed to disk, renamed, and only then gets a receipt
with its sha256 and the digest of the plan it was written from. Writing the same plan twice gives
the same bytes, so a killed build continues where it stopped and ends with an identical result.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from bundle.atomic import write_file
from bundle.image import DecodedImage, Reduction
from training.data.data_recipe import SCHEMA, DataError

RECEIPTS = ".receipts"
"""Folder, inside a data set, of one receipt per finished shard."""

INDEX = "index.json"


class ShardError(DataError):
    """A shard or its index is missing, damaged or of another schema."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image with its metadata, as stored."""

    key: str
    """Unique in the data set; holds no dot, which ends a WebDataset key."""
    png: bytes
    meta: Mapping[str, Any]

    def image(self) -> Image.Image:
        """The image decoded, alpha and all."""
        with Image.open(io.BytesIO(self.png), formats=["PNG"]) as file:
            return file.convert("RGBA")

    def decoded(self, reduction: Reduction) -> DecodedImage:
        """See LabelledImage: a PNG is decoded whole."""
        return DecodedImage(self.image(), 1)


@dataclass(frozen=True, kw_only=True)
class ShardInfo:
    """The index's entry for one shard."""

    file: str
    sha256: str
    bytes: int
    samples: int


def dump_json(value: object) -> bytes:
    """JSON in canonical form: equal values have equal bytes."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def plan_digest(samples: Sequence[Sample]) -> str:
    """sha256 of everything that a shard of `samples` would hold."""
    total = hashlib.sha256()
    for sample in samples:
        for part in (sample.key.encode(), sample.png, dump_json(sample.meta)):
            total.update(hashlib.sha256(part).digest())
    return total.hexdigest()


def tar_bytes(samples: Sequence[Sample]) -> bytes:
    """The shard holding `samples`, in order: `<key>.png` then `<key>.json` each."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            if "." in sample.key:
                raise ShardError(f"sample key {sample.key!r} holds a dot")
            for ending, content in (("png", sample.png), ("json", dump_json(sample.meta))):
                info = tarfile.TarInfo(f"{sample.key}.{ending}")
                info.size, info.mode = len(content), 0o644
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def write_shard(folder: Path, file: str, samples: Sequence[Sample]) -> ShardInfo:
    """Writes one shard and its receipt, or returns at once when the same shard is already there."""
    plan = plan_digest(samples)
    finished = finished_shard(folder, file, plan)
    if finished is not None:
        return finished
    (folder / RECEIPTS).mkdir(parents=True, exist_ok=True)
    receipt = folder / RECEIPTS / f"{file}.json"
    # The old receipt goes first: from here until the end nothing vouches for this shard.
    receipt.unlink(missing_ok=True)
    content = tar_bytes(samples)
    write_file(folder / file, content)
    info = ShardInfo(
        file=file,
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        samples=len(samples),
    )
    write_file(receipt, dump_json({"plan": plan, **vars(info)}))
    return info


def finished_shard(folder: Path, file: str, plan: str) -> ShardInfo | None:
    """The shard's receipt when it was written from `plan` and the file still matches it."""
    try:
        raw = json.loads((folder / RECEIPTS / f"{file}.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if raw.pop("plan", None) != plan:
        return None
    info = ShardInfo(**raw)
    try:
        verify_shard(folder, info)
    except ShardError:
        return None
    return info


def verify_shard(folder: Path, info: ShardInfo) -> None:
    """Raises ShardError unless the file is there with the recorded size and sha256."""
    path = folder / info.file
    if not path.is_file():
        raise ShardError(f"{info.file}: missing from {folder}")
    if path.stat().st_size != info.bytes:
        raise ShardError(f"{info.file}: {path.stat().st_size} bytes, recorded {info.bytes}")
    with path.open("rb") as stream:
        actual = hashlib.file_digest(stream, "sha256").hexdigest()
    if actual != info.sha256:
        raise ShardError(f"{info.file}: sha256 {actual[:16]}, recorded {info.sha256[:16]}")


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a finished data set. Raises ShardError for any other folder."""
    path = folder / INDEX
    if not path.is_file():
        raise ShardError(f"{folder} holds no {INDEX}: not a data set, or its build did not finish")
    try:
        index = json.loads(path.read_bytes())
    except ValueError as error:
        raise ShardError(f"{path}: not valid JSON") from error
    if not isinstance(index, dict) or index.get("schema") != SCHEMA:
        raise ShardError(f"{path}: not an index of schema {SCHEMA}")
    return index


def shards_of(folder: Path, split: str) -> list[ShardInfo]:
    """The shards of one split, in order."""
    splits = read_index(folder)["splits"]
    if split not in splits:
        raise ShardError(f"{folder} has no split {split!r}; it has {', '.join(splits)}")
    return [ShardInfo(**raw) for raw in splits[split]["shards"]]


def read_split(folder: Path, split: str, *, verify: bool = True) -> Iterator[Sample]:
    """Samples of a split in stored order; each shard's sha256 is checked first.

    Raises ShardError.
    """
    for info in shards_of(folder, split):
        if verify:
            verify_shard(folder, info)
        yield from read_tar(folder / info.file)


def read_tar(path: Path) -> Iterator[Sample]:
    """Samples of one tar file. Raises ShardError when it is no shard of this project."""
    png: tuple[str, bytes] | None = None
    try:
        with tarfile.open(path, mode="r:") as tar:
            for member in tar:
                key, _, ending = member.name.partition(".")
                stream = tar.extractfile(member)
                content = stream.read() if stream is not None else b""
                if ending == "png":
                    png = (key, content)
                elif ending == "json" and png is not None and png[0] == key:
                    yield Sample(key=key, png=png[1], meta=json.loads(content))
                else:
                    raise ShardError(f"{path.name}: unexpected member {member.name!r}")
    except tarfile.TarError as error:
        raise ShardError(f"{path.name}: not a readable tar: {error}") from error
