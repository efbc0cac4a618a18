"""CLIPs of published sizes for speed: one set of random weights, as every program here reads it.

    python -m benchmarks.clip_models vit_b32 --work build/bench      # about three minutes

A folder of Hugging Face is written. `sparseclip import` makes a dense bundle of it, and `sparseclip
sparsify` a sparse one with 16,384 concepts. Weights are random, which says nothing about answers;
an engine takes the same time with any weights.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.hf_models import REAL, HFGeometry, write_hf_model
from examples.train_on_own_pairs import draw_shapes

CONCEPTS = 16_384
IMAGES = 192
"""Of drawn shapes, from which the sparse head is made: enough for `sparsify` to split."""
STEPS = 40
WORK = Path("build/bench")
"""Where models are kept between runs."""

GEOMETRIES = {
    "vit_b32": REAL["clip"],
    "vit_l14": HFGeometry(
        patch=14,
        width=1_024,
        layers=24,
        heads=16,
        text_heads=12,
        text_layers=12,
        context_length=77,
        vocabulary=49_408,
        dim=768,
    ),
}
"""The published sizes of OpenAI's CLIP, at 224 px."""


@dataclass(frozen=True, kw_only=True)
class ClipModel:
    """One set of weights, three times."""

    folder: Path
    """Of Hugging Face."""
    dense: Path
    """The bundle that `import` made."""
    sparse: Path
    """The bundle that `sparsify` made."""


def prepare(name: str, work: Path) -> ClipModel:
    """The model `name` of GEOMETRIES, made where it is not there yet."""
    home = work.resolve()
    folder, models = home / name, home / "models"
    if not (folder / "config.json").exists():
        print(f"{name}: writing random weights", flush=True)
        write_hf_model("clip", folder, GEOMETRIES[name])
    if not (models / f"{name}_dense").exists():
        _sparseclip("import", f"hf:{folder}", "--name", f"{name}_dense", "--models", models)
    if not (models / f"{name}_sparse").exists():
        shapes = home / "shapes"
        if not shapes.exists():
            draw_shapes(shapes, IMAGES)
        _sparseclip(
            *("sparsify", models / f"{name}_dense", shapes, "--name", f"{name}_sparse"),
            *("--models", models, "--concepts", CONCEPTS, "--steps", STEPS),
            *("--output", home / "runs" / name, "--cache", home / "embeddings"),
        )
    return ClipModel(
        folder=folder, dense=models / f"{name}_dense", sparse=models / f"{name}_sparse"
    )


def _sparseclip(*arguments: object) -> None:
    """Runs a command in a process of its own, whose memory ends with it."""
    given = [str(argument) for argument in arguments]
    print(f"sparseclip {given[0]} {given[1]}", flush=True)
    command = [sys.executable, "-m", "serving.cli.main", *given]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"sparseclip {given[0]}: {done.stderr.strip().splitlines()[-1]}")


def main() -> None:
    """Makes one model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", choices=GEOMETRIES)
    parser.add_argument("--work", type=Path, default=WORK, help="folder that keeps the models")
    arguments = parser.parse_args()
    print(prepare(arguments.model, arguments.work))


if __name__ == "__main__":
    main()
