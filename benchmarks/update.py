"""An update of an export beside a full export of the same collection.

    python -m benchmarks.update

A part of the images is replaced. Both commands then run on the same folder, one after the other, in
alternating blocks; both are whole commands, the time to start included. The rows of both must be
the same.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.arguments import above, at_least
from benchmarks.figures import machine, summary
from benchmarks.sample_collections import image, images
from bundle.store import default_bundle
from serving.export.export_reader import ExportReader

RESULTS = Path(__file__).parent / "results"
SIZE = (128, 128)
FIRST_SEED = 10_000
"""Of the images that replace others; those of the collection have lower ones."""


def main() -> None:
    """Measures, prints and writes benchmarks/results/update.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", type=at_least(1), default=20_000)
    parser.add_argument(
        "--changed", type=above(0, up_to=1), default=0.1, help="share that is replaced"
    )
    parser.add_argument("--repeats", type=at_least(1), default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        blocks = measure(Path(work), arguments.images, arguments.changed, arguments.repeats)
        for result in blocks:
            result |= {"machine": machine(), "load": os.getloadavg()}
            (RESULTS / "update.json").write_text(json.dumps(result, indent=1) + "\n")
    print((RESULTS / "update.json").read_text())


def measure(work: Path, count: int, share: float, repeats: int) -> Iterator[dict[str, Any]]:
    """Seconds of an update and of a full export, after each block."""
    source, before = images(work, count, SIZE), work / "before"
    first = export(source, before)
    step = round(1 / share)
    changed = sorted(source.iterdir())[::step]
    for number, file in enumerate(changed):
        file.write_bytes(image(SIZE, "JPEG", FIRST_SEED + number % 256))
    seconds: dict[str, list[float]] = {"update": [], "full": [], "nothing to do": []}
    for block in range(repeats):
        updated, full = work / f"updated-{block}", work / f"full-{block}"
        shutil.copytree(before, updated)
        seconds["update"].append(export(source, updated, "--update"))
        seconds["full"].append(export(source, full))
        seconds["nothing to do"].append(export(source, updated, "--update"))
        assert codes(updated) == codes(full)
        pairs = zip(seconds["full"], seconds["update"], strict=True)
        yield {
            "bundle": default_bundle().parent.name + "/" + default_bundle().name,
            "images": count,
            "size": SIZE,
            "changed": len(changed),
            "first export, s": first,
            "seconds": seconds,
            "summary, s": {name: summary(values) for name, values in seconds.items()},
            "full over update": summary([full / update for full, update in pairs]),
        }


def export(source: Path, output: Path, *options: str) -> float:
    """Seconds of one command."""
    command = [sys.executable, "-m", "serving.cli.main", "export", str(source), str(output)]
    began = time.perf_counter()
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def codes(output: Path) -> dict[str, tuple[list[int], list[float]]]:
    """The code of each live row, with values of four digits: batches differ."""
    export, rows = ExportReader.open(str(output)), {}
    for receipt in export.receipts:
        for batch in export.batches(receipt, ["id", "indices", "values"]):
            for row in batch.to_pylist():
                values = [float(f"{value:.4g}") for value in row["values"]]
                rows[row["id"]] = (row["indices"], values)
    return rows


if __name__ == "__main__":
    main()
