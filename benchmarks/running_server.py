"""A `sparseclip serve` as users start it, its CPU time, and the machine that it runs on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.serving import machine
from serving.core.child_process import python_path


class Server:
    """A `sparseclip serve` that runs."""

    def __init__(self, address: str, process: psutil.Process) -> None:
        self.address = address
        self.process = process

    def cpu_s(self, since: dict[str, float] | None = None) -> dict[str, float]:
        """CPU seconds of the server's own process and of those that decode for it."""
        own = sum(self.process.cpu_times()[:2])
        children = sum(sum(child.cpu_times()[:2]) for child in self.process.children())
        used = {"server": own, "decoding": children}
        return {name: value - (since or {}).get(name, 0.0) for name, value in used.items()}


@contextlib.contextmanager
def serving(bundle: Path, *flags: str) -> Iterator[Server]:
    """`sparseclip serve` on a free port, without chat."""
    command = [sys.executable, "-m", "serving.cli.main", "serve", "--bundle", str(bundle)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--chat", "off", *flags],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        if "serving on " not in line:
            raise SystemExit(line + process.stderr.read())
        threading.Thread(target=process.stderr.read, daemon=True).start()  # or its pipe fills
        yield Server(line.rsplit(" ", 1)[1].strip(), psutil.Process(process.pid))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def environment() -> dict[str, str]:
    """This process's environment and import path."""
    return {**os.environ, "PYTHONPATH": python_path()}


def described() -> dict[str, Any]:
    """The machine, its instructions that matter, and the versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
    own = {name: version(name) for name in ("sparseclip", "psutil")}
    return {**machine(), "flags": [flag for flag in wanted if flag in flags], **own}
