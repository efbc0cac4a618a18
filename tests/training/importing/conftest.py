"""Folders of tiny models, written once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.hf_models import TINY, write_hf_model
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


@pytest.fixture(scope="session")
def hf_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a directory of Hugging Face for each family."""
    folder = tmp_path_factory.mktemp("hf")
    for family in ("clip", "siglip", "siglip2", "metaclip_2"):
        write_hf_model(family, folder / family, TINY)
    return folder
