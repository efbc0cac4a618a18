"""Builds a model's engines in int8, calibrated on images that no other benchmark sends.

A server and the other benchmarks use int8 only where somebody built it. What is built stays in the
usual cache. So run this once, before benchmarks.engines and the benchmarks of servers.

    python -m benchmarks.int8_build --model vit_b32        # about four minutes
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.clip_models import GEOMETRIES, WORK, prepare
from benchmarks.running_server import environment
from benchmarks.sample_collections import IMAGES, image

ENGINES = ("openvino", "onnxruntime")
SEEDS = range(10_000, 10_192)
"""Seeds of the images. The other benchmarks count theirs from 0."""


def main() -> None:
    """Builds int8 for the dense and the sparse bundle, and shows what `sparseclip engine` says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", choices=GEOMETRIES, default="vit_b32")
    parser.add_argument("--work", type=Path, default=WORK, help="folder that keeps the models")
    given = parser.parse_args()
    model = prepare(given.model, given.work)
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            Path(folder, f"{seed}.jpg").write_bytes(image(*IMAGES["jpeg512"], seed))
        for bundle in (model.dense, model.sparse):
            for engine in ENGINES:
                print(f"{bundle.name}: {engine} int8", flush=True)
                build = ["engine", "build", "--engine", engine, "--precision", "int8"]
                build += ["--bundle", str(bundle), "--images", folder]
                command = [sys.executable, "-m", "serving.cli.main", *build]
                if subprocess.run(command, env=environment()).returncode:
                    print("it is left out: the benchmarks go on without it", flush=True)


if __name__ == "__main__":
    main()
