"""What several data tests share."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.data.hand_made import hand_made_recipe
from training.data.data_recipe import DataRecipe

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


@pytest.fixture
def recipe(tmp_path: Path, tarball: Tarball) -> DataRecipe:
    """A recipe whose packages lie in the cache already."""
    return hand_made_recipe(tmp_path, tarball)
