"""Engines on a CUDA device: parity, images per second, the share of the peak, the head's cost.

    python -m benchmarks.engines_gpu --out FILE                      # about ten minutes
    python -m benchmarks.engines_gpu --device cpu --small --out FILE # tries the program itself
    python -m benchmarks.engines_gpu --device cpu --models vit_b32 --out FILE    # four minutes

It needs numpy, Pillow, onnx, onnxruntime and torch, and no model: weights are random. ONNX Runtime
is measured on CUDA where it is onnxruntime-gpu, TensorRT where it is installed; what cannot run is
named with the reason. FILE is written after each case, so what was measured stays.

`served` counts copies from and to numpy arrays. `device` repeats the CUDA graph alone. The peak is
a square product in bf16 in the same run.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.arguments import above
from benchmarks.vit_graph import VITS, VitGeometry, write_vit
from bundle.onnx_graph import GraphName, OnnxGraph
from bundle.plugins import PluginError
from bundle.store import Bundle
from serving.engines import ENGINES, Device, EnginePrecision
from serving.engines._hardware import hardware
from serving.engines.base import BuildTask, Engine, EngineConfig, EngineError, GraphPlan

BATCHES = {"cuda": (1, 2, 4, 8, 16, 32, 64, 128, 256), "cpu": (1, 8, 32)}
CONCEPTS = {"cuda": (0, 16_384, 55_296), "cpu": (16_384,)}
"""0 is a dense model: the difference to it is the cost of head and TopK."""
CASES: dict[str, tuple[tuple[str, EnginePrecision], ...]] = {
    "cuda": (
        ("torch", "bf16"),
        ("onnxruntime", "bf16"),
        ("onnxruntime", "fp16"),
        ("onnxruntime", "fp32"),
        ("tensorrt", "bf16"),
    ),
    "cpu": (("onnxruntime", "fp32"), ("torch", "fp32"), ("torch", "bf16")),
}
SIDES = {"cuda": 8_192, "cpu": 2_048}
"""Of the square matrices whose product is the peak."""
COMPARED = 8
"""Images of the comparison with ONNX Runtime on the CPU in fp32."""


class GraphFolder:
    """One image graph in the place of a bundle: what an engine asks of it, and no more."""

    graphs: tuple[GraphName, ...] = ("image",)

    def __init__(self, folder: Path, concepts: int) -> None:
        self._folder = folder
        self.is_sparse = concepts > 0

    def file(self, name: str) -> Path:
        """The path of a file."""
        return self._folder / name


def main() -> None:
    """Measures all, as far as the time allows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--small", action="store_true", help="a small model, three batch sizes")
    parser.add_argument("--models", nargs="+", choices=VITS, default=["vit_b32", "vit_l14"])
    parser.add_argument("--seconds", type=above(0), default=1.0, help="for each batch size")
    parser.add_argument("--budget", type=above(0), default=480.0, help="seconds: no case after it")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    began = time.perf_counter()
    concepts = (0, 256) if given.small else CONCEPTS[given.device]
    record: dict[str, Any] = {"machine": machine(given.device), "cases": []}
    record["peak_bf16_tflops"] = peak(given.device, 512 if given.small else SIDES[given.device])
    for model in ["small"] if given.small else given.models:
        # The engine that matters most comes first, with the head that matters most.
        for name, precision in CASES[given.device]:
            for count in sorted(concepts, key=lambda c: (c == max(concepts), c == 0)):
                if time.perf_counter() - began > given.budget:
                    record["stopped"] = "the budget was spent"
                    break
                case = {"model": model, "concepts": count, "engine": name, "precision": precision}
                case |= measured(VITS[model], count, name, precision, given, record)
                record["cases"].append(case)
                given.out.write_text(json.dumps(record, indent=1) + "\n")
                print(json.dumps(case), flush=True)


def measured(
    geometry: VitGeometry,
    concepts: int,
    name: str,
    precision: EnginePrecision,
    given: argparse.Namespace,
    record: dict[str, Any],
) -> dict[str, Any]:
    """One engine on one graph: seconds to build, parity, rates; or why it cannot run."""
    with tempfile.TemporaryDirectory() as work:
        folder, built = Path(work), Path(work) / "built"
        built.mkdir()
        write_vit(folder / "image.onnx", geometry, concepts)
        bundle = cast(Bundle, GraphFolder(folder, concepts))
        started = time.perf_counter()
        try:
            kind = ENGINES.load(name)
            if precision not in kind.precisions(given.device):
                return {"refused": f"no {precision} on this device"}
            kind.build(
                BuildTask(
                    bundle=bundle,
                    graph="image",
                    device=given.device,
                    precision=precision,
                    kept=(),
                    calibration=None,
                    folder=built,
                )
            )
            plan = GraphPlan(precision=precision, folder=built if any(built.iterdir()) else None)
            config = EngineConfig(name=name, device=given.device, precision=precision)
            engine = kind.open(bundle, config, plans={"image": plan})
            build_s = round(time.perf_counter() - started, 1)
            figures = rates(engine, geometry, concepts, given, record)
        except (EngineError, PluginError) as error:
            return {"refused": str(error)[:500]}
        reference = OnnxGraph(folder / "image.onnx", "image", sparse=concepts > 0)
        found = parity(engine, reference, geometry, concepts)
        engine.close()
        return {"build_s": build_s, "parity": found, **figures}


def rates(
    engine: Engine,
    geometry: VitGeometry,
    concepts: int,
    given: argparse.Namespace,
    record: dict[str, Any],
) -> dict[str, Any]:
    """Images per second by batch size, and the share of the peak."""
    batches = BATCHES[given.device][:3] if given.small else BATCHES[given.device]
    served: dict[int, float] = {}
    device: dict[int, float] = {}
    uncaptured: dict[int, float] = {}
    for batch in batches:
        noise = images(geometry, batch)
        engine.run("image", noise)
        with ThreadPoolExecutor(engine.runs) as pool:
            futures = [
                pool.submit(rate, lambda: engine.run("image", noise), given.seconds)  # noqa: B023
                for _ in range(engine.runs)
            ]
            served[batch] = round(batch * sum(future.result() for future in futures), 1)
        model: Any = getattr(engine, "_models", {}).get("image")
        capture = getattr(model, "_captures", {}).get(batch)
        if capture is not None:
            device[batch] = round(batch * device_rate(capture.graph.replay, given.seconds), 1)
        if capture is not None and batch == 1:
            value = capture.device_input
            eager = device_rate(lambda: model._model(value), given.seconds)  # noqa: B023
            uncaptured[batch] = round(batch * eager, 1)
    best = max((device or served).values())
    achieved = best * geometry.flops(concepts) / 1e12
    return {
        "served": served,
        "device": device,
        "device_without_cuda_graph": uncaptured,
        "tflops": round(achieved, 3),
        "share_of_bf16_peak": round(achieved / record["peak_bf16_tflops"], 3),
    }


def parity(
    engine: Engine, reference: OnnxGraph, geometry: VitGeometry, concepts: int
) -> dict[str, float]:
    """The least cosine of codes or dense vectors, and the least Jaccard index of the concepts."""
    pixels = images(geometry, COMPARED)
    expected, output = reference.run(pixels), engine.run("image", pixels)
    if not concepts:
        return {"cosine": least_cosine(expected["dense"], output.dense)}
    a, b = (np.zeros((COMPARED, concepts), np.float32) for _ in range(2))
    np.put_along_axis(a, expected["indices"], expected["values"], axis=1)
    np.put_along_axis(b, output.indices, output.values, axis=1)
    both, either = ((a > 0) & (b > 0)).sum(1), ((a > 0) | (b > 0)).sum(1)
    return {"cosine": least_cosine(a, b), "jaccard": float((both / either).min())}


def least_cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Of rows (N, X) and (N, X)."""
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return float(cosines.min())


def images(geometry: VitGeometry, count: int) -> NDArray[np.float32]:
    """Noise as pixels."""
    shape = (count, 3, geometry.side, geometry.side)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def rate(run: Callable[[], object], seconds: float) -> float:
    """Runs per second."""
    done, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        run()
        done += 1
    return done / elapsed


def device_rate(run: Callable[[], object], seconds: float) -> float:
    """Runs per second of what only gives work to the device."""
    with torch.inference_mode():
        run()
        torch.cuda.synchronize()
        done, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            for _ in range(10):
                run()
            torch.cuda.synchronize()
            done += 10
    return done / elapsed


def peak(device: str, side: int) -> float:
    """10^12 operations per second of a square product in bf16."""
    a, b = (torch.randn(side, side, device=device).to(torch.bfloat16) for _ in range(2))
    measure = device_rate if device == "cuda" else rate
    return round(2e-12 * side**3 * measure(lambda: torch.mm(a, b), 1.0), 4)


def machine(device: Device) -> dict[str, str]:
    """What the figures belong to."""
    return {
        "device": hardware(device),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
