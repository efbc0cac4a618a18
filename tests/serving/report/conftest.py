"""Exports to report on, and the command that does it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.dataset as dataset
import pyarrow.parquet as parquet
import pytest
from click.testing import CliRunner

from serving.cli.main import main
from tests.serving.export.command import options, run
from tests.serving.export.image_folders import folder, png
from tests.serving.report.page import Page

COUNT, BROKEN, ROWS = 60, (3, 17), 16

EVIL = "</script><script>alert('1')</script>&<b>"

Reporter = Callable[..., Page]
"""Arguments of `sparseclip report` but for the page, which it gives."""


def call(*arguments: object, code: int = 0) -> str:
    """What a report prints; its exit code must be `code`."""
    done = CliRunner().invoke(main, ["report", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def report(tmp_path: Path) -> Reporter:
    def write_page(*arguments: object) -> Page:
        call(*arguments, "-o", tmp_path / "made" / "report.html")
        return Page(tmp_path / "made" / "report.html")

    return write_page


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("report-in") / "images", COUNT, BROKEN)


@pytest.fixture(scope="session")
def exported(source: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("report-out") / "export"
    run(source, output, *options(tiny_bundle, rows=ROWS))
    return output


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts and images with ids that try to become HTML."""
    path = tmp_path_factory.mktemp("report-table") / "table.parquet"
    ids = [f"{EVIL}{number}" for number in range(12)]
    texts = [f"a red {EVIL} star", "long " * 100, None] * 4
    images = [None if number % 3 == 2 else png(number) for number in range(12)]
    parquet.write_table(pyarrow.table({"key": ids, "caption": texts, "image": images}), path)
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, or of a folder in the order of its files."""
    rows: list[dict[str, Any]] = dataset.dataset(path).to_table().to_pylist()
    return rows
