"""A user's way from a folder of Hugging Face to search by named concepts, timed command by command.

    python -m benchmarks.bring_your_own

The model is a CLIP ViT-B/32 with random weights in Hugging Face's own format. The images are drawn
shapes with captions. Every command is a whole one, the time to start included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.arguments import at_least
from benchmarks.figures import machine
from benchmarks.hf_models import write_hf_model
from examples.train_on_own_pairs import draw_shapes

RESULTS = Path(__file__).parent / "results"
QUERY = ["--text", "a red circle"]


def main() -> None:
    """Measures, prints and writes benchmarks/results/bring_your_own.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", type=at_least(100), default=2_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        write_hf_model("clip", folder / "my_clip")
        draw_shapes(folder / "pictures", arguments.images)
        result: dict[str, Any] = {
            "model": "CLIP ViT-B/32, random weights, a folder of Hugging Face",
            "images": arguments.images,
            "seconds": measure(folder),
        }
    result |= {"machine": machine(), "load": os.getloadavg()}
    text = json.dumps(result, indent=1) + "\n"
    (RESULTS / "bring_your_own.json").write_text(text)
    print(text)


def measure(folder: Path) -> dict[str, float]:
    """Seconds of each command."""
    dense, sparse = "models/my_clip", "models/my_concepts"
    seconds = {
        "import": run(folder, "import", "hf:my_clip", "--name", "my_clip"),
        "data inspect": run(folder, "data", "inspect", "pictures"),
        "sparsify": run(folder, "sparsify", dense, "pictures", "--name", "my_concepts"),
    }
    server = subprocess.Popen(
        [*command("serve"), "--bundle", sparse, "--port", "0"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    began = time.perf_counter()
    try:
        assert server.stderr is not None
        line = next(line for line in server.stderr if "serving on " in line)
        seconds["serve, until it serves"] = time.perf_counter() - began
        address = line.split()[-1]
        image = next((folder / "pictures").glob("*.png"))
        seconds["embed"] = run(folder, "embed", str(image), *QUERY, "--server", address)
    finally:
        server.terminate()
        server.wait()
    seconds["export"] = run(folder, "export", "pictures", "out", "--bundle", sparse)
    seconds["index"] = run(folder, "index", "out", "qdrant:vectors")
    seconds["search"] = run(folder, "search", "qdrant:vectors", *QUERY, "--bundle", sparse)
    return {name: round(value, 1) for name, value in seconds.items()}


def command(*arguments: str) -> list[str]:
    """The console command of this environment."""
    return [sys.executable, "-m", "serving.cli.main", *arguments]


def run(folder: Path, *arguments: str) -> float:
    """Seconds of one command. Raises CalledProcessError when it fails."""
    began = time.perf_counter()
    subprocess.run(command(*arguments), cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
