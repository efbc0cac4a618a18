"""A collection and its export, shared by the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.serving.export.command import BROKEN, COUNT, options, run
from tests.serving.export.image_folders import folder


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("in") / "images", COUNT, BROKEN)


@pytest.fixture(scope="session")
def whole(images: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("out") / "whole"
    run(images, output, *options(tiny_bundle), "--dense")
    return output
