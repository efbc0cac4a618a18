"""Prints what the benchmarks of serving last measured as tables in Markdown.

python -m benchmarks.tables
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.figures import RESULTS, Summary


def main() -> None:
    """Prints a table for each result file that is there."""
    argparse.ArgumentParser(description=__doc__.split("\n\n")[0]).parse_args()
    tables = {
        "engines": engines,
        "serving": served,
        "beside_peers": peers,
        "latency": latency,
        "outside_python": outside_python,
    }
    for name, rows in tables.items():
        file = RESULTS / f"{name}.json"
        if file.exists():
            print("\n".join([f"{name}.json", "", *rows(json.loads(file.read_text())), ""]))


def engines(results: dict[str, Any]) -> Iterator[str]:
    """A row for each engine, precision and batch size."""
    yield from head(
        ["model", "engine", "batch", "images/s", "over ONNX Runtime fp32", "of the peak"]
    )
    for model, result in results.items():
        over = result["over onnxruntime:fp32"]
        for engine, batches in result["images_per_second"].items():
            for batch, rate in batches.items():
                ratio = over.get(engine, {}).get(batch)
                share = result["share_of_peak"].get(engine, {}).get(batch)
                cells = [model, engine, batch, figure(rate), figure(ratio), percent(share)]
                yield line(cells)
        peaks = {name: figure(peak) for name, peak in result["peak_gigaflops"].items()}
        yield line([model, "peak, GFLOP/s", ", ".join(f"{k} {v}" for k, v in peaks.items())])


def served(results: dict[str, Any]) -> Iterator[str]:
    """A row for each way to call, and one for a single image."""
    yield from head(["model", "engine", "call", "images/s", "over engine only"])
    for model, result in results.items():
        for name, rate in result["images_per_second"].items():
            ratio = result["served_over_engine_only"].get(name)
            yield line([model, result["engine"], name, figure(rate), figure(ratio)])
        for name, milliseconds in result["single_image_ms"].items():
            yield line([model, result["engine"], f"one image, {name}, ms", figure(milliseconds)])


def peers(results: dict[str, Any]) -> Iterator[str]:
    """A row for each setting and program."""
    yield from head(["model", "setting", "program", "images/s", "over infinity", "p50, ms"])
    for model, result in results.items():
        for setting, arms in result["images_per_second"].items():
            for name, rate in arms.items():
                ratio = result["over_infinity"].get(setting, {}).get(name)
                latency = result["latency_p50_ms"].get(setting, {}).get(name)
                yield line([model, setting, name, figure(rate), figure(ratio), figure(latency)])
        yield line([model, "cosine with ours", json.dumps(result["cosine_with_ours"])])
        yield line([model, "memory, MiB", json.dumps(result["memory_mib"])])


def latency(results: dict[str, Any]) -> Iterator[str]:
    """A row for each server and rate."""
    yield from head(["model", "server", "offered", "p50, ms", "p95, ms", "answered in time"])
    for model, result in results.items():
        for server, steps in result["steps"].items():
            for step in steps:
                shares = step["answered_in_time"]
                cells = [figure(step["p50_ms"]), figure(step["p95_ms"]), figure(shares)]
                yield line([model, server, f"{step['rate']:g}", *cells])


def outside_python(result: dict[str, Any]) -> Iterator[str]:
    """A row for each caller and concurrency."""
    yield from head(["calls", "caller", "images/s", "p50, ms"])
    for setting, arms in result["images_per_second"].items():
        for name, rate in arms.items():
            yield line(
                [setting, name, figure(rate), figure(result["latency_p50_ms"][setting][name])]
            )


def head(columns: Sequence[str]) -> list[str]:
    """The first two lines of a table."""
    return [line(columns), "|---" * len(columns) + "|"]


def line(cells: Sequence[str]) -> str:
    """One row."""
    return f"| {' | '.join(cells)} |"


def figure(value: Summary | None) -> str:
    """A median and its range."""
    if value is None:
        return ""
    return f"{value['median']:.4g} ({value['min']:.4g} to {value['max']:.4g})"


def percent(share: float | None) -> str:
    """A share in per cent."""
    return "" if share is None else f"{share:.0%}"


if __name__ == "__main__":
    main()
