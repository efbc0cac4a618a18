"""Files that collections are made of, some of them damaged."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow
from PIL import Image
from pyarrow import ipc, parquet


def image(seed: int, form: str = "PNG") -> bytes:
    """A small image of its own."""
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


def write_file(path: Path, data: bytes) -> None:
    """A file, and the folders that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def more_images(count: int) -> list[bytes]:
    """Images beside the cases."""
    return [image(40 + number) for number in range(count)]


def write_tar(path: Path, members: list[tuple[str, bytes]], *, packed: bool = False) -> bytes:
    """A tar file of these members, which may be compressed; its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    data = gzip.compress(stream.getvalue(), mtime=0) if packed else stream.getvalue()
    path.write_bytes(data)
    return data


def bytes_until(data: bytes, mark: bytes) -> bytes:
    """The bytes before a mark."""
    return data[: data.index(mark)]


def write_links(path: Path) -> None:
    """A tar file with a link and a folder that have the names of images."""
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("link.png")
        info.type, info.linkname = tarfile.SYMTYPE, "good.png"
        tar.addfile(info)
        folder = tarfile.TarInfo("folder.png")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)


def write_parquet(path: Path, keys: list[str | None], images: list[bytes | None]) -> bytes:
    """A table of ids and images; its bytes."""
    parquet.write_table(pyarrow.table({"key": keys, "image": images}), path)
    return path.read_bytes()


def write_damaged_parquet(path: Path) -> None:
    """A table of three row groups, of which the second one is damaged."""
    table = pyarrow.table({"key": ["p0", "p1", "p2"], "image": more_images(3)})
    parquet.write_table(table, path, row_group_size=1, compression="none", use_dictionary=False)
    start = parquet.read_metadata(path).row_group(1).column(1).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 40] = b"\xff" * 40
    path.write_bytes(data)


def write_arrow_stream(
    path: Path, keys: list[str], images: pyarrow.Array, end: int | None = None
) -> None:
    """An Arrow stream of one row in each batch, cut at `end`."""
    table = pyarrow.table({"key": keys, "image": images})
    stream = io.BytesIO()
    with ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    path.write_bytes(stream.getvalue()[:end])


def write_arrow_file(path: Path, table: pyarrow.Table) -> None:
    """An Arrow file."""
    with pyarrow.OSFile(str(path), "wb") as stream, ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)
