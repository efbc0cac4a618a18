"""How many concepts an image needs: accuracy when its code is cut to its K strongest concepts.

It shows, for example, what a caller loses by storing 32 numbers per image. Codes of texts are not
cut.

    python -m benchmarks.strongest                  # the demo bundle, on the unseen style
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

from benchmarks.arguments import at_least
from bundle.store import default_bundle
from training.evaluation.encoder import BundleEncoder, CodeMatrix
from training.evaluation.evaluate import encode_splits, evaluate_encoded

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measures, prints and writes benchmarks/results/strongest.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, help="default: the demo bundle")
    parser.add_argument("--data", type=Path, default=Path("data/build/demo-research"))
    parser.add_argument("--split", default="test_style")
    parser.add_argument("--kept", type=at_least(1), nargs="+", default=[8, 16, 32, 64, 128, 256])
    arguments = parser.parse_args()
    encoder = BundleEncoder(arguments.bundle or default_bundle())
    [whole] = encode_splits(encoder, arguments.data, [arguments.split])
    rows = []
    for kept in (*arguments.kept, encoder.concepts):
        cut = dataclasses.replace(whole, codes=strongest(whole.codes, kept))
        figures = evaluate_encoded(encoder, cut)
        rows.append(
            {
                "kept": kept,
                "l0": round(figures.image_sparsity.l0, 1),
                "top1": round(figures.zero_shot.top1.percent, 2),
                "top1_error": round(figures.zero_shot.top1.error, 2),
                "top5": round(figures.zero_shot.top5.percent, 2),
            }
        )
    result = {"model": encoder.name, "split": arguments.split, "rows": rows}
    text = json.dumps(result, indent=1)
    print(text)
    (RESULTS / "strongest.json").write_text(text + "\n")


def strongest(codes: CodeMatrix, kept: int) -> CodeMatrix:
    """Codes (N, C) in which all but the `kept` largest values of each row are 0."""
    if kept >= codes.shape[1]:
        return codes
    top = np.argpartition(codes, -kept, axis=1)[:, -kept:]
    cut = np.zeros_like(codes)
    np.put_along_axis(cut, top, np.take_along_axis(codes, top, axis=1), axis=1)
    return cut


if __name__ == "__main__":
    main()
