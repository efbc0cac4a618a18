"""TensorRT reads, types and builds the graphs of ViT-B/32 with a sparse head, without a GPU.

    pip install tensorrt-rtx cuda-bindings
    python -m benchmarks.tensorrt_build --models FOLDER

For each graph and precision: seconds to write the typed graph and to build the plan, the plan's
size, and the layers of the network by their kind and type. The bundle is made in FOLDER once; it
has random weights, as the figures do not depend on them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import RESULTS, machine
from benchmarks.sample_collections import vit_b32
from bundle.store import open_bundle
from serving.engines import EnginePrecision
from serving.engines.base import BuildTask

PRECISIONS: tuple[EnginePrecision, ...] = ("fp32", "bf16", "fp16")
PRODUCTS = ("CONVOLUTION", "MATRIX_MULTIPLY")


def built(task: BuildTask) -> dict[str, Any]:
    """The figures of one graph in one precision."""
    tensorrt = importlib.import_module("serving.engines._tensorrt_network")
    typing = importlib.import_module("serving.engines._typed_graph")
    path = task.folder / f"{task.graph}.onnx"
    started = time.perf_counter()
    if task.precision == "fp32":
        source = task.bundle.file(f"{task.graph}.onnx")
        importlib.import_module("onnx").save(typing.simplified(source, task.folder), path)
    else:
        typing.write_typed_graph(task)
    typed = time.perf_counter()
    network = tensorrt.TensorRtNetwork(path)
    read = time.perf_counter()
    plan = network.plan()
    ended = time.perf_counter()
    return {
        "type_s": round(typed - started, 2),
        "read_s": round(read - typed, 2),
        "build_s": round(ended - read, 2),
        "graph_bytes": path.stat().st_size,
        "plan_bytes": len(plan),
        "layers": {f"{kind} {name}": n for (kind, name), n in sorted(network.layers().items())},
    }


def row(precision: str, graph: str, figures: dict[str, Any]) -> str:
    """A row of the table in docs/results.md."""
    layers: dict[str, int] = figures["layers"]

    def count(kinds: tuple[str, ...], *, low: bool) -> int:
        named = ((name.split(), n) for name, n in layers.items())
        low_types = {"HALF", "BF16"}
        return sum(n for (kind, of), n in named if kind in kinds and (of in low_types) == low)

    seconds = figures["type_s"] + figures["read_s"] + figures["build_s"]
    return (
        f"| {graph} | {precision} | {seconds:.1f} | {figures['plan_bytes'] / 1e6:.0f}"
        f" | {count(PRODUCTS, low=True)} | {count(PRODUCTS, low=False)}"
        f" | {sum(layers.values())} |"
    )


def main() -> None:
    """Builds all, prints the table and writes the raw output."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--models", type=Path, required=True, help="folder that keeps the bundle")
    given = parser.parse_args()
    trt = importlib.import_module("serving.engines._tensorrt_library").trt
    bundle = open_bundle(vit_b32(given.models))
    results: dict[str, dict[str, Any]] = {}
    for precision in PRECISIONS:
        for graph in bundle.graphs:
            with tempfile.TemporaryDirectory() as folder:
                task = BuildTask(
                    bundle=bundle,
                    graph=graph,
                    device="cuda",
                    precision=precision,
                    kept=(),
                    calibration=None,
                    folder=Path(folder),
                )
                results.setdefault(precision, {})[graph] = built(task)
            print(row(precision, graph, results[precision][graph]), flush=True)
    record = {
        "library": f"{trt.__name__} {trt.__version__}",
        "model": "ViT-B/32, C = 8,192, random weights, a text tower of one layer",
        "machine": machine(),
        "graphs": results,
    }
    (RESULTS / "tensorrt_build.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
