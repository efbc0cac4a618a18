"""Collections that change between two runs, as every kind of input has them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow
import pyarrow.parquet as parquet

from tests.serving.export.image_folders import BROKEN, png

Images = Mapping[str, bytes]
"""Encoded images by their names."""
WriteCollection = Callable[[Path, Images], list[object]]
"""Makes an input of exactly these images in a folder; gives the first arguments of an export."""

BEFORE: Images = {f"{number:02d}": png(number) for number in range(20)} | {"07": BROKEN}
AFTER: Images = {
    **{name: data for name, data in BEFORE.items() if name not in ("02", "11")},  # two are gone
    "03": png(103),  # another image
    "07": png(107),  # it was in quarantine
    "12": BROKEN,  # it had a row
    "20": png(120),
    "21": BROKEN,
}
NEW, CHANGED, GONE = 2, 3, 2


def _folder(folder: Path, images: Images) -> list[object]:
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        if file.stem not in images:
            file.unlink()
    for name, data in images.items():
        file = folder / f"{name}.png"
        if not file.exists() or file.read_bytes() != data:
            file.write_bytes(data)
    return [folder]


def _tars(folder: Path, images: Images) -> list[object]:
    """A shard for each ten names."""
    folder.mkdir(exist_ok=True)
    for ten in sorted({name[0] for name in images}):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as out:
            for name in sorted(images):
                if name[0] == ten:
                    info = tarfile.TarInfo(f"{name}.png")
                    info.size = len(images[name])
                    out.addfile(info, io.BytesIO(images[name]))
        _write(folder / f"{ten}.tar", stream.getvalue())
    return [folder]


def _table(folder: Path, images: Images) -> list[object]:
    folder.mkdir(exist_ok=True)
    stream = io.BytesIO()
    names = sorted(images)
    columns = {"key": names, "image": [images[name] for name in names]}
    parquet.write_table(pyarrow.table(columns), stream)
    _write(folder / "0.parquet", stream.getvalue())
    return [folder, "--column", "image", "--id-column", "key"]


def _list(folder: Path, images: Images) -> list[object]:
    _folder(folder, images)
    lines = "".join(f"{name}\t{folder.name}/{name}.png\n" for name in sorted(images))
    _write(folder.parent / f"{folder.name}.txt", lines.encode())
    return [folder.parent / f"{folder.name}.txt"]


def _write(file: Path, data: bytes) -> None:
    if not file.exists() or file.read_bytes() != data:
        file.write_bytes(data)


COLLECTIONS: dict[str, WriteCollection] = {
    "folder": _folder,
    "webdataset": _tars,
    "table": _table,
    "list": _list,
}
"""By the kind of the input: a new kind of input needs a row here."""
