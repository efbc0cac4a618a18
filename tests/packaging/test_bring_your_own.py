"""The page "Bring your own": all its commands in order, on tiny models and drawn images."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.hf_models import TINY, write_hf_model
from examples.train_on_own_pairs import draw_shapes
from tests.mllm_adapter.llms import tiny_llm
from tests.packaging.pages import scan
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "bring_your_own.md"
ADDRESS = "localhost:50051"
PAIRS = 160


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The four things that the page begins with."""
    write_hf_model("clip", tmp_path / "my_clip", TINY)
    pictures = tmp_path / "pictures"
    draw_shapes(pictures, PAIRS)
    rows = []
    for number, path in enumerate(sorted(pictures.glob("*.png"))):
        caption = path.with_suffix(".txt")
        rows.append({"file_name": f"{number}.png", "text": caption.read_text().strip()})
        caption.unlink()
        path.rename(pictures / f"{number}.png")
    with (pictures / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file_name", "text"])
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "words.txt").write_text("red\ngreen\nblue\ncircle\nsquare\ntriangle\nzebra\n")
    model, tokenizer = tiny_llm()
    model.save_pretrained(tmp_path / "my_llm")
    tokenizer.save_pretrained(tmp_path / "my_llm", save_jinja_files=False)
    conversations = [
        {
            "id": str(number),
            "image": row["file_name"],
            "conversations": [
                {"from": "human", "value": "<image>\nWhat is this?"},
                {"from": "gpt", "value": row["text"]},
            ],
        }
        for number, row in enumerate(rows[:40])
    ]
    (tmp_path / "conversations.json").write_text(json.dumps(conversations))
    return tmp_path


def environment() -> dict[str, str]:
    paths = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return os.environ | paths | {"HF_HUB_OFFLINE": "1"}


@contextmanager
def serving(command: str, folder: Path) -> Iterator[str]:
    """Runs `sparseclip serve` at a free port, and gives its address."""
    words = [*shlex.split(command), "--port", "0"]
    with subprocess.Popen(
        words, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            started = re.search(r"serving on (\S+)", process.stderr.readline())
            assert started is not None
            yield started[1]
        finally:
            process.send_signal(signal.SIGTERM)


def run(command: str, folder: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        shell=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_page_runs_from_a_clip_to_a_chat(folder: Path) -> None:
    blocks = scan("page", PAGE.read_text())
    [recipe] = [block.code for block in blocks if block.language == "yaml"]
    (folder / "adapter.yaml").write_text(recipe)
    commands = [
        line for block in blocks if block.language == "bash" for line in block.code.splitlines()
    ]
    server = next(c for c in commands if c.startswith("sparseclip serve"))
    outputs = {}
    for command in commands:
        if command == server or command.startswith("pip install"):
            continue
        if ADDRESS in command:
            with serving(server, folder) as address:
                outputs[command] = run(command.replace(ADDRESS, address), folder)
        else:
            outputs[command] = run(command, folder)
    assert len(outputs) == 15
    # A model of forty steps may answer with nothing at all.
    silent = [command for command, out in outputs.items() if not out]
    assert all(command.startswith("sparseclip chat") for command in silent), silent
    assert (folder / "models" / "my_clip" / "1" / "manifest.json").is_file()
    assert (folder / "models" / "my_concepts" / "2" / "adapter").is_dir()
    [found] = [out for command, out in outputs.items() if command.startswith("sparseclip search")]
    assert "0.png" in found  # at least itself
