"""Folders of tiny models of open_clip, written once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.open_clip_models import write_open_clip
from tests.training.importing.tiny_open_clip import MODELS


@pytest.fixture(scope="session")
def open_clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model, by its name in MODELS."""
    folders: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in folders:
            path = tmp_path_factory.mktemp(name)
            folders[name] = write_open_clip(path, *MODELS[name])
        return folders[name]

    return folder
