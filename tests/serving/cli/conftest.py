"""A real server of the tiny bundle, and a way to run the console command against it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from serving.cli.main import main
from serving.in_process import local_server


@dataclass(frozen=True)
class Ended:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The output as JSON, one object per line."""
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Ended]


@pytest.fixture(scope="session")
def address(tiny_bundle: Path) -> Iterator[str]:
    """Where a real server of the tiny bundle listens."""
    with local_server(tiny_bundle) as opened:
        yield opened


@pytest.fixture
def run() -> Run:
    """Runs `sparseclip` with these arguments."""

    def invoke(*arguments: str | Path, **environment: str) -> Ended:
        done = CliRunner().invoke(main, [str(entry) for entry in arguments], env=environment)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Ended(done.exit_code, done.stdout, done.stderr)

    return invoke


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with four images, one broken, and something that is no image."""
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    for name, colour in [("a.png", "red"), ("b.jpg", "green"), ("below/c.webp", "blue")]:
        Image.new("RGB", (40, 30), colour).save(folder / name)
    (folder / "broken.png").write_bytes(b"not an image")
    (folder / "notes.txt").write_text("no image")
    return folder
