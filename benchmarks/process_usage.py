"""What a process and its children use: seconds, CPU and memory."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil


def timed(command: list[Any]) -> float:
    """Seconds that a command takes. Raises CalledProcessError when it fails."""
    began = time.perf_counter()
    subprocess.run(
        list(map(str, command)), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - began


@contextlib.contextmanager
def watched(pid: int) -> Iterator[list[float]]:
    """The peak memory of a process and its children in bytes, as the one number in a list."""
    peak, ended = [0.0], threading.Event()

    def watch() -> None:
        parent = psutil.Process(pid)
        while not ended.wait(0.1):
            with contextlib.suppress(psutil.Error):
                family = [parent, *parent.children(recursive=True)]
                peak[0] = max(peak[0], sum(one.memory_info().rss for one in family))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def until_idle(process: psutil.Process, seconds: float = 120.0) -> float:
    """When the process and its children have used next to no CPU for a second, or `seconds` have
    passed."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        before = used(process)
        time.sleep(1.0)
        if used(process) - before < 0.1:
            break
    return time.perf_counter()


def used(process: psutil.Process) -> float:
    """CPU seconds of a process and its children."""
    total = sum(process.cpu_times()[:2])
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += sum(child.cpu_times()[:2])
    return float(total)
