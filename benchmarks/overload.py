"""What a server does with more calls than it can answer.

1. `in_flight`: 1,000 calls at once on one channel, by a caller without retries and by both clients.
2. `knee`: the rate of an open loop is raised until calls fail; the knee is the last good step.
3. `overload`: three times the knee. Goodput, the latency of refusals, of answers and of health.

The server runs as users start it. The callers are processes of their own on the same cores, so the
figures are lower than those of callers on another machine. benchmarks.reloads measures memory.

    python -m benchmarks.overload                       # about four minutes
    python -m benchmarks.overload --only knee overload --seconds 3
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.serving import IMAGES, RESULTS, image, machine
from bundle.store import default_bundle
from sparseclip import AsyncClient, CallError, Client
from sparseclip.v1 import embedding_pb2

PARTS = ("in_flight", "knee", "overload")
GOOD = 0.98
"""The share of a step's calls that must be answered in time."""

Result = dict[str, Any]


def main() -> None:
    """Measures, prints, and adds the result to benchmarks/results/overload.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, help="default: the demo bundle")
    parser.add_argument("--images", choices=IMAGES, default="jpeg512")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a step")
    parser.add_argument("--deadline", type=float, default=2.0, help="of a call, in seconds")
    parser.add_argument("--knee", type=float, help="images per second, instead of looking for it")
    parser.add_argument("--count", type=int, default=1_000, help="calls in flight")
    parser.add_argument("--flags", nargs="*", default=[], help="of sparseclip serve, as k=v")
    parser.add_argument("--label", default="now", help="key of the result, such as before")
    parser.add_argument("--out", type=Path, default=RESULTS / "overload.json")
    given = parser.parse_args()
    flags = [part for flag in given.flags for part in (f"--{flag}".split("=", 1))]
    result: Result = {}
    with serving(given.bundle or default_bundle(), *flags) as server, payload(given) as path:
        load = Load(server, path, given)
        load.caller("--rate", "20", seconds=3.0)  # a first second in which everything is warmed up
        if "in_flight" in given.only:
            result["in_flight"] = in_flight(load)
        if given.knee is None and {"knee", "overload"} & set(given.only):
            result["knee"] = find_knee(load)
        if "overload" in given.only:
            knee = given.knee or result["knee"]["goodput_per_second"]
            result["overload"] = beyond(load, knee)
    record(given, result)


def record(given: argparse.Namespace, result: Result) -> None:
    """Prints a result and puts it under its label, beside those of other labels."""
    result["arguments"] = {
        key: value if isinstance(value, int | float) else str(value)
        for key, value in vars(given).items()
        if not isinstance(value, Path)
    }
    result["machine"] = described()
    print(json.dumps(result, indent=1))
    results = json.loads(given.out.read_text()) if given.out.exists() else {}
    results.setdefault(given.label, {}).update(result)
    given.out.write_text(json.dumps(results, indent=1) + "\n")


class Load:
    """A running server, the request that is sent to it, and the processes that send it."""

    def __init__(self, server: Server, path: Path, given: argparse.Namespace) -> None:
        self.server = server
        self.path = path
        self.given = given

    def caller(self, *flags: str, seconds: float = 0.0) -> Result:
        """What one process of benchmarks.open_loop measures."""
        return finished(self.start(*flags, seconds=seconds))

    def start(self, *flags: str, seconds: float = 0.0) -> subprocess.Popen[str]:
        """Starts a process of benchmarks.open_loop."""
        command = [sys.executable, "-m", "benchmarks.open_loop", self.server.address]
        command += ["--payload", str(self.path), "--deadline", str(self.given.deadline)]
        command += ["--seconds", str(seconds or self.given.seconds), *flags]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())


def finished(process: subprocess.Popen[str]) -> Result:
    """The JSON that a process prints."""
    out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"a caller ended with status {process.returncode}")
    result: Result = json.loads(out)
    return result


def find_knee(load: Load) -> Result:
    """Raises the rate by a quarter until calls fail, and then tries the rates between."""
    steps: list[Result] = []

    def is_good(rate: float) -> bool:
        step = load.caller("--rate", str(rate), "--warm", "1")
        steps.append(step)
        print(f"{rate:.0f}/s: {step['goodput_per_second']}/s in time", file=sys.stderr)
        return bool(step["goodput_per_second"] >= GOOD * step["offered_per_second"])

    rate = 60.0
    while is_good(rate):
        rate *= 1.25
    low, high = rate / 1.25, rate
    for _ in range(2):
        middle = (low + high) / 2
        low, high = (middle, high) if is_good(middle) else (low, middle)
    good = [
        step for step in steps if step["goodput_per_second"] >= GOOD * step["offered_per_second"]
    ]
    best = max(good, key=lambda step: float(step["goodput_per_second"]), default=steps[0])
    return {"goodput_per_second": best["goodput_per_second"], "steps": steps}


def beyond(load: Load, knee: float) -> Result:
    """Three times the knee, beside a process that asks for health."""
    cpu = load.server.cpu_s()
    started = time.perf_counter()
    calls = load.start("--rate", str(3 * knee), "--warm", "2", seconds=load.given.seconds + 2)
    health = load.start("--health", seconds=load.given.seconds + 2)
    result = {**finished(calls), "health_ms": finished(health)}
    seconds = time.perf_counter() - started
    result["knee_per_second"] = knee
    result["goodput_of_knee"] = round(result["goodput_per_second"] / knee, 3)
    result["server_cores"] = {
        name: round(used / seconds, 3) for name, used in load.server.cpu_s(since=cpu).items()
    }
    return result


def in_flight(load: Load) -> Result:
    """All calls at once on one channel: a stock caller, and both clients with their retries."""
    count = load.given.count
    deadline = ["--deadline", "60"]
    result: Result = {
        "stock, 1 channel": load.caller("--burst", str(count), *deadline),
        "stock, 4 channels": load.caller("--burst", str(count), "--channels", "4", *deadline),
        "AsyncClient": asyncio.run(with_tasks(load.server.address, load.path, count)),
        "Client": with_threads(load.server.address, load.path, count),
    }
    for name, entry in result.items():
        print(f"{name}: {entry['outcomes']}", file=sys.stderr)
    return result


async def with_tasks(address: str, path: Path, count: int) -> Result:
    """One AsyncClient, a task for each call."""
    data = embedding_pb2.EmbedRequest.FromString(path.read_bytes()).inputs[0].image
    started = time.perf_counter()

    async def one() -> str:
        try:
            [embedding] = await client.embed([data])
        except CallError as error:
            return error.code.name
        return "OK" if embedding.status.ok else embedding.status.code.name

    async with AsyncClient(address, timeout=60.0) as client:
        outcomes = Counter(await asyncio.gather(*(one() for _ in range(count))))
    return {"outcomes": dict(outcomes), "seconds": round(time.perf_counter() - started, 2)}


def with_threads(address: str, path: Path, count: int) -> Result:
    """One Client, a thread for each call."""
    data = embedding_pb2.EmbedRequest.FromString(path.read_bytes()).inputs[0].image
    outcomes: Counter[str] = Counter()
    lock = threading.Lock()
    started = time.perf_counter()

    def one() -> None:
        try:
            [embedding] = client.embed([data])
            outcome = "OK" if embedding.status.ok else embedding.status.code.name
        except CallError as error:
            outcome = error.code.name
        with lock:
            outcomes[outcome] += 1

    with Client(address, timeout=60.0) as client:
        threads = [threading.Thread(target=one) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return {"outcomes": dict(outcomes), "seconds": round(time.perf_counter() - started, 2)}


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


@contextlib.contextmanager
def payload(given: argparse.Namespace) -> Iterator[Path]:
    """A file with the bytes of a request for one image."""
    data = image(*IMAGES[given.images], seed=0)
    request = embedding_pb2.EmbedRequest(inputs=[embedding_pb2.EmbedInput(image=data)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "request"
        path.write_bytes(request.SerializeToString())
        yield path


def environment() -> dict[str, str]:
    """This process's environment and import path."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def described() -> Result:
    """The machine, its instructions that matter, and the versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
    own = {name: version(name) for name in ("sparseclip", "psutil")}
    return {**machine(), "flags": [flag for flag in wanted if flag in flags], **own}


if __name__ == "__main__":
    main()
