"""Rows of embeddings on disk, appended in parts that are whole or not there. N rows, D width."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.atomic import write_file

VECTORS, LINES, STATE = "vectors.f16", "rows.jsonl", "state.json"


class EmbeddingFile:
    """A folder of unit vectors in float16, a line of JSON for each of them, and how many of both
    count. What a killed process wrote beyond that is cut off."""

    def __init__(self, folder: Path, width: int) -> None:
        """Opens or begins the folder for vectors of `width` numbers, D."""
        self.folder, self.width = folder, width
        folder.mkdir(parents=True, exist_ok=True)
        self.state: dict[str, Any] = {"rows": 0, "bytes": 0, "done": False}
        with contextlib.suppress(FileNotFoundError, ValueError):
            self.state |= json.loads((folder / STATE).read_bytes())

    @property
    def rows(self) -> int:
        """N."""
        return int(self.state["rows"])

    def append(self, vectors: NDArray[np.floating], lines: Sequence[object], **state: Any) -> None:
        """Adds vectors (n, D) and what is known of each; `state` is kept with the count."""
        encoded = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
        rows, size = self.rows, self.size
        content = np.ascontiguousarray(vectors, dtype=np.float16).tobytes()
        _write_at(self.folder / VECTORS, 2 * rows * self.width, content)
        _write_at(self.folder / LINES, size, encoded)
        self.state |= {"rows": rows + len(lines), "bytes": size + len(encoded), **state}
        write_file(self.folder / STATE, json.dumps(self.state).encode())

    def vectors(self) -> NDArray[np.float16]:
        """The vectors (N, D), mapped from the file and not read yet."""
        if not self.rows:
            return np.zeros((0, self.width), dtype=np.float16)
        shape = (self.rows, self.width)
        return np.memmap(self.folder / VECTORS, dtype=np.float16, mode="r", shape=shape)

    @property
    def size(self) -> int:
        """Bytes of the lines."""
        return int(self.state["bytes"])

    def lines(self, since: int = 0) -> list[Any]:
        """What is known of each of the N rows, or of those after the first `since` bytes."""
        if self.size <= since:
            return []
        with (self.folder / LINES).open("rb") as file:
            file.seek(since)
            content = file.read(self.size - since)
        return [json.loads(line) for line in content.splitlines()]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Waits until no other process writes into the folder, and keeps others out."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_at(path: Path, size: int, content: bytes) -> None:
    """Cuts the file to `size` bytes and appends to it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
