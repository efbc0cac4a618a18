"""A `sparseclip serve` as users start it, its CPU time, and what it uses."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

from serving.core.child_process import python_path

LONG_QUEUE = ("--limits-queue-s", "60")
"""Callers that wait for answers are not refused, however slow the model is."""


class Server:
    """A `sparseclip serve` that runs."""

    def __init__(self, address: str, process: psutil.Process, http_address: str = "") -> None:
        self.address = address
        self.process = process
        self.http_address = http_address
        """As `http://host:port`; empty where HTTP is not served."""

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
        line = ""
        for line in process.stderr:  # those before are of engines that are built and measured
            if "serving on " in line:
                break
        else:
            raise SystemExit(line)
        threading.Thread(target=process.stderr.read, daemon=True).start()  # or its pipe fills
        address, _, http_address = line.partition("serving on ")[2].strip().partition(" and ")
        yield Server(address, psutil.Process(process.pid), http_address)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def environment() -> dict[str, str]:
    """This process's environment and import path."""
    return {**os.environ, "PYTHONPATH": python_path()}
