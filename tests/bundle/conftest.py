"""A bundle to damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A version directory to damage; its parent has CURRENT."""
    shutil.copytree(tiny_bundle.parent, tmp_path / "tiny")
    return tmp_path / "tiny" / tiny_bundle.name
