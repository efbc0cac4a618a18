"""An export of the tiny bundle, real databases to put it in, and what they must answer."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from bundle.store import open_bundle
from bundle.verify import MANIFEST
from serving.cli.main import main
from serving.in_process import local_server
from serving.index.databases.base import Code, IndexRow, SearchableDatabase
from serving.index.export_rows import ExportRows
from sparseclip import Client
from tests.serving.export.image_folders import folder
from tests.support.tiny_model import CONCEPTS

COUNT, BROKEN = 60, (3, 17)

Locate = Callable[[str, Path], str]
"""A place of its own in the database of a kind."""


@dataclass(frozen=True)
class Collection:
    """Rows that are known in full."""

    rows: list[IndexRow]
    matrix: NDArray[np.float64]
    """(B, C), unit rows."""

    def scores(self, query: Code) -> dict[str, float]:
        """Every row's cosine."""
        dense = np.zeros(CONCEPTS)
        dense[query.indices] = query.values
        return dict(zip([row.id for row in self.rows], self.matrix @ dense, strict=True))

    def best(self, query: Code, top: int) -> list[float]:
        """The highest cosines, those above 0."""
        scores = sorted(self.scores(query).values(), reverse=True)[:top]
        return [score for score in scores if score > 0]


def export(source: Path, output: Path, bundle: Path) -> Path:
    """Runs `sparseclip export`."""
    options = ["--bundle", bundle, "--rows", 16, "--batch", 4, "--decoders", 1]
    done = CliRunner().invoke(main, ["export", *map(str, [source, output, *options])])
    assert done.exit_code == 0, done.output
    return output


def load(database: SearchableDatabase, exported: Path, size: int = 16) -> None:
    rows = ExportRows.open(str(exported))
    database.prepare(rows.origin)
    for batch in rows.batches(size):
        database.load(batch)
    database.finish()


@pytest.fixture(scope="session")
def exported(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = folder(tmp_path_factory.mktemp("index-in") / "images", COUNT, BROKEN)
    return export(source, tmp_path_factory.mktemp("index-out") / "export", tiny_bundle)


@pytest.fixture(scope="session")
def other_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as another version of itself."""
    path = shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("other-models") / "tiny" / "2")
    manifest = open_bundle(path).manifest
    (path / MANIFEST).write_text(dataclasses.replace(manifest, version="2").to_json())
    return path


@pytest.fixture(scope="session")
def other_export(other_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = folder(tmp_path_factory.mktemp("other-in") / "images", 3)
    return export(source, tmp_path_factory.mktemp("other-out") / "export", other_bundle)


@pytest.fixture(scope="session")
def collection(exported: Path) -> Collection:
    rows = [row for batch in ExportRows.open(str(exported)).batches(7) for row in batch]
    matrix = np.zeros((len(rows), CONCEPTS))
    for line, row in zip(matrix, rows, strict=True):
        line[row.vector.indices] = row.vector.values
    return Collection(rows, matrix)


@pytest.fixture(scope="session")
def client(tiny_bundle: Path) -> Iterator[Client]:
    with local_server(tiny_bundle) as address, Client(address) as opened:
        yield opened


@pytest.fixture(scope="session")
def locate(postgres: str) -> Locate:
    def of(kind: str, path: Path) -> str:
        addresses = {
            "qdrant": f"qdrant:{path / 'qdrant'}",
            "milvus": f"milvus:{path / 'milvus.db'}",
            "pgvector": f"pgvector:{postgres}",
        }
        return addresses[kind]

    return of
