"""Every script of examples/ runs as its first lines say, and does what it tells."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from bundle.store import default_bundle
from serving.in_process import local_server
from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples"
IMAGES = ROOT / "docs" / "images"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server of the shipped bundle, with chat."""
    with local_server(default_bundle()) as opened:
        yield opened


def run(*command: str | Path) -> str:
    """Runs a command from the repository's root and returns what it prints."""
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env=os.environ | {"PATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_here(
    script: str,
    *arguments: str | Path,
    patch: pytest.MonkeyPatch,
    capture: pytest.CaptureFixture[str],
) -> str:
    """Runs a script in this process, which has imported torch already, and returns its output."""
    patch.setattr(sys, "argv", [script, *map(str, arguments)])
    patch.chdir(ROOT)
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    return capture.readouterr().out


def python(script: str, *arguments: str | Path) -> str:
    return run(sys.executable, EXAMPLES / script, *arguments)


def test_a_search_finds_the_image_of_the_word(address: str) -> None:
    lines = python("embed_and_search.py", IMAGES, "sailboat", "--server", address).splitlines()
    scores = [float(line.split()[0]) for line in lines]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 3
    assert lines[0].endswith("sailboat.png")


def test_an_explanation_names_concepts_and_draws_their_maps(address: str, tmp_path: Path) -> None:
    image, overlays = IMAGES / "sailboat.png", tmp_path / "overlays"
    out = python("explain.py", image, "--top", "2", "--overlays", overlays, "--server", address)
    assert len(re.findall(r"^\S.* \d+\.\d\d \(its strongest words: .+\)$", out, re.MULTILINE)) == 2
    assert "@@" in out  # each map's strongest patch
    files = sorted(overlays.iterdir())
    assert len(files) == 2
    for file in files:
        with Image.open(file) as opened:
            assert opened.format == "PNG"


def test_steering_changes_the_answer(address: str) -> None:
    out = python("steered_chat.py", IMAGES / "cat.png", "--server", address)
    assert "as it is: cat\n" in out
    assert "steered:  dog\n" in out
    assert re.search(r"^  .+: \d+\.\d\d -> \d+\.\d\d$", out, re.MULTILINE)


def test_an_export_is_written_checked_and_read(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    codes = tmp_path / "codes"
    out = run(EXAMPLES / "bulk_export.sh", IMAGES, codes)
    assert "3 rows, 0 in quarantine" in out
    assert re.search(r"^3 images, \d+ active concepts each$", out, re.MULTILINE)
    assert "<html" in (tmp_path / "codes-report.html").read_text()


def test_training_on_own_pairs_learns_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--draw", tmp_path / "images", tmp_path / "run", "--set", "loop.epochs=6")
    out = run_here("train_on_own_pairs.py", *arguments, patch=monkeypatch, capture=capsys)
    assert "512 pairs" in out
    share = re.search(r"own text nearest: (\d+)% of 256 images, among 24 texts", out)
    assert share is not None
    assert int(share[1]) > 30
    active = re.search(r"active concepts: (\d+) of 512", out)
    assert active is not None
    assert 0 < int(active[1]) < 300


def test_the_overview_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawing = tmp_path / "overview.png"
    arguments = (drawing, IMAGES / "cat.png=dog")
    out = run_here("overview.py", *arguments, patch=monkeypatch, capture=capsys)
    assert out == f"wrote {drawing}\n"
    with Image.open(drawing) as opened:
        assert opened.width > opened.height > 100


def test_every_example_is_run_here() -> None:
    text = Path(__file__).read_text() + (EXAMPLES / "bulk_export.sh").read_text()
    for script in (*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.sh")):
        assert script.name in text, f"{script.name}: no test runs it"
