"""What several data tests share."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import pytest

Tarball = Callable[[dict[str, bytes]], bytes]


@pytest.fixture
def tarball() -> Tarball:
    """Makes an archive as npm publishes it."""

    def make(files: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(f"package/{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return buffer.getvalue()

    return make
