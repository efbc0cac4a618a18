"""What a machine computes on: part of the identity of what was built on it."""

from __future__ import annotations

import functools
import platform
import shutil
import subprocess
from pathlib import Path

from serving.engines import Device, EnginePrecision

_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16", "amx_int8")
"""Instructions by which libraries choose their kernels."""


def hardware(device: Device) -> str:
    """The processor and its instructions, or the GPU with its driver."""
    return gpu() if device == "cuda" else cpu()


@functools.cache
def cpu() -> str:
    """The processor's name and its vector instructions, as Linux says them."""
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines():
            name, _, value = line.partition(":")
            fields[name.strip()] = value.strip()
    except OSError:  # another system than Linux
        return f"{platform.processor() or platform.machine()} {platform.system()}"
    # Names of one family may be alike: its numbers tell them apart.
    model = fields.get("model name", platform.machine())
    numbers = "/".join(fields.get(name, "") for name in ("cpu family", "model", "stepping"))
    flags = set(fields.get("flags", "").split())
    return " ".join([model, numbers, *(flag for flag in _FLAGS if flag in flags)])


@functools.cache
def gpu() -> str:
    """The first GPU's name, driver and compute capability; empty where the driver does not say."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    query = "--query-gpu=name,driver_version,compute_cap"
    command = [tool, query, "--format=csv,noheader"]
    try:
        reply = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return reply.stdout.strip().partition("\n")[0]


_TENSOR_CORES: dict[EnginePrecision, tuple[int, int]] = {
    "fp32": (0, 0),
    "bf16": (8, 0),
    "fp16": (7, 0),
}
"""Compute capabilities from which a GPU multiplies matrices in a precision."""


def compute_capability() -> tuple[int, int]:
    """Of the first GPU, such as (9, 0); (0, 0) where the driver does not say."""
    major, _, minor = gpu().rpartition(", ")[2].partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else (0, 0)


def cuda_precisions() -> tuple[EnginePrecision, ...]:
    """The precisions that the first GPU multiplies matrices in, fp32 first."""
    capability = compute_capability()
    return tuple(name for name, least in _TENSOR_CORES.items() if capability >= least)
