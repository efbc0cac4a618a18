"""`sparseclip bundle verify | inspect`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundle.store import open_bundle
from tests.support.paths import ROOT
from tests.support.tiny_model import WORDS
from training.cli.bundle import bundle


def test_verify(tiny_bundle: Path) -> None:
    for path in (tiny_bundle, tiny_bundle.parent):
        done = CliRunner().invoke(bundle, ["verify", str(path)])
        assert done.exit_code == 0, done.output
        assert done.output.startswith("tiny/1: good (8 files, ")
        assert "256 concepts, 600 token ids" in done.output


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_a_damaged_bundle_ends_in_one_line(tiny_bundle: Path, tmp_path: Path, command: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_bundle, copy)
    (copy / "CARD.md").write_text("other")
    done = CliRunner().invoke(bundle, [command, str(copy)])
    assert (done.exit_code, done.output) == (1, "Error: CARD.md: size differs from the manifest\n")


def test_inspect_as_json(tiny_bundle: Path) -> None:
    done = CliRunner().invoke(bundle, ["inspect", str(tiny_bundle), "--json", "--top", "3"])
    assert done.exit_code == 0, done.output
    data = json.loads(done.output)
    assert data["architecture"]["concepts"] == 256
    assert set(data["files"]) == set(open_bundle(tiny_bundle).manifest.files)
    assert [c["name"] for c in data["concepts"]] == list(WORDS[:3])


def test_inspect_as_tables(tiny_bundle: Path) -> None:
    done = CliRunner().invoke(bundle, ["inspect", str(tiny_bundle)], env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    for words in ("tiny 1", "architecture.pool", "patch_mean", "image.onnx", "parity.text", *WORDS):
        assert words in done.output


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_they_need_no_torch(tiny_bundle: Path, command: str) -> None:
    program = (
        "import sys; from training.cli.bundle import bundle\n"
        "bundle(sys.argv[1:], standalone_mode=False)\n"
        "print('heavy:', *{'torch', 'onnx', 'onnxruntime', 'open_clip'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, command, str(tiny_bundle)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.endswith("heavy:\n")
