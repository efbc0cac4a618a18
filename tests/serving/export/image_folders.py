"""Collections of images to export, some of them broken."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

BROKEN = b"\x89PNG\r\n\x1a\nnot an image"


def png(seed: int) -> bytes:
    """A small image of its own."""
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def folder(path: Path, count: int, broken: tuple[int, ...] = ()) -> Path:
    """Images in two levels of folders, and a file that is none."""
    for number in range(count):
        file = path / f"{number % 3}" / f"{number:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(BROKEN if number in broken else png(number))
    (path / "notes.txt").write_text("not an image")
    return path


def tar(path: Path, count: int) -> Path:
    """A shard as webdataset writes it: an image and its metadata, sample after sample."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as out:
        for number in range(count):
            for name, data in ((f"{number:04d}.png", png(number)), (f"{number:04d}.json", b"{}")):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                out.addfile(info, io.BytesIO(data))
    return path
