"""What result files hold: medians with their ranges, and the machine that they belong to."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
from importlib.metadata import version
from pathlib import Path
from typing import Any

from serving.engines.base import available_cores

RESULTS = Path(__file__).parent / "results"

Summary = dict[str, float]


def summary(values: list[float]) -> Summary:
    """Median and range over blocks."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def summaries(values: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, Summary]]:
    """Median and range over blocks, of every arm."""
    return {
        setting: {name: summary(blocks) for name, blocks in arms.items()}
        for setting, arms in values.items()
    }


def add_result(path: Path, name: str, result: dict[str, Any]) -> None:
    """Adds a result to a file of results, or replaces the one of its name."""
    results = json.loads(path.read_text()) if path.exists() else {}
    results[name] = result
    path.write_text(json.dumps(results, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """The machine and the versions that the figures belong to."""
    names = ("onnxruntime", "grpcio", "pillow", "numpy", "protobuf")
    cpu = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), cpu)
    return {
        "cpu": cpu,
        "cores": available_cores(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def described() -> dict[str, Any]:
    """The machine, its instructions that matter, and the versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
    own = {name: version(name) for name in ("sparseclip", "psutil")}
    return {**machine(), "flags": [flag for flag in wanted if flag in flags], **own}
