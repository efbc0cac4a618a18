"""The page "Bring your own": all its commands in order, on tiny models and drawn images."""

from __future__ import annotations

import csv
import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.hf_models import TINY, write_hf_model
from examples.train_on_own_pairs import draw_shapes
from serving.cli.main import main
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


@contextmanager
def serving(command: str) -> Iterator[str]:
    """Runs `sparseclip serve` at a free port, and gives its address."""
    words = [f"{Path(sys.executable).parent}/{command.partition(' ')[0]}"]
    words += [*shlex.split(command)[1:], "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            started = (re.search(r"serving on (\S+)", line) for line in process.stderr)
            yield next(found for found in started if found is not None)[1]
        finally:
            process.send_signal(signal.SIGTERM)


def run(command: str) -> str:
    """Runs `sparseclip ...` in this process, which has imported torch already."""
    name, *arguments = shlex.split(command)
    assert name == "sparseclip"
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, f"{command}\n{done.output}\n{done.exception!r}"
    return done.stdout


def test_the_page_runs_from_a_clip_to_a_chat(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    blocks = scan("page", PAGE.read_text())
    [recipe] = [block.code for block in blocks if block.language == "yaml"]
    (folder / "adapter.yaml").write_text(recipe)
    commands = [
        line for block in blocks if block.language == "bash" for line in block.code.splitlines()
    ]
    outputs = {}
    with ExitStack() as server:
        address = ""
        for command in commands:
            if command.startswith("sparseclip serve"):
                address = server.enter_context(serving(command))
            elif not command.startswith("pip install"):
                outputs[command] = run(command.replace(ADDRESS, address))
    assert len(outputs) == 15
    # A model of forty steps may answer with nothing at all.
    silent = [command for command, out in outputs.items() if not out]
    assert all(command.startswith("sparseclip chat") for command in silent), silent
    assert (folder / "models" / "my_clip" / "1" / "manifest.json").is_file()
    assert (folder / "models" / "my_concepts" / "2" / "adapter").is_dir()
    [found] = [out for command, out in outputs.items() if command.startswith("sparseclip search")]
    assert "0.png" in found  # at least itself
