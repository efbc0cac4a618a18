"""What a server does with more calls than it can answer.

1. `in_flight`: 1,000 calls at once on one channel, by a caller without retries and by both clients.
2. `knee`: the rate of an open loop is raised until calls fail; the knee is the last good step.
3. `overload`: three times the knee. Goodput, the latency of refusals, of answers and of health; by
   callers that announce their items in a header, as the clients of this project do, and by others.

The server runs as users start it. The callers are processes of their own on the same cores, so the
figures are lower than those of callers on another machine. benchmarks.reloads measures memory.

    python -m benchmarks.overload                       # about eight minutes
    python -m benchmarks.overload --only knee overload --seconds 3
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.arguments import above, at_least
from benchmarks.figures import RESULTS, described
from benchmarks.running_server import Server, environment, serving
from benchmarks.sample_collections import IMAGES, image
from bundle.store import default_bundle
from sparseclip import AsyncClient, CallError, Client
from sparseclip.announcement import ITEMS_HEADER
from sparseclip.v1 import embedding_pb2

PARTS = ("in_flight", "knee", "overload")
CHANNELS = ("--channels", "8")
"""Of an open loop. On one connection HTTP/2's limit of streams may hold calls back in their caller;
a server has many callers."""
ANNOUNCED = ("--header", f"{ITEMS_HEADER}=image=1")
REFUSED = "RESOURCE_EXHAUSTED+RetryInfo"
WARM_S = 1.0
"""The start of a step, whose calls do not count."""
GOOD = 0.98
"""The share of a step's calls that must be answered in time."""

Result = dict[str, Any]


def main() -> None:
    """Measures, prints, and adds the result to benchmarks/results/overload.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, help="default: the demo bundle")
    parser.add_argument("--images", choices=IMAGES, default="jpeg512")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--seconds", type=above(WARM_S), default=8.0, help="length of a step, the warm-up included"
    )
    parser.add_argument("--rounds", type=at_least(1), default=5, help="of the overload")
    parser.add_argument("--deadline", type=above(0), default=2.0, help="of a call, in seconds")
    parser.add_argument(
        "--knee", type=above(0), help="images per second, instead of looking for it"
    )
    parser.add_argument("--count", type=at_least(1), default=1_000, help="calls in flight")
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
    """Raises the rate by a quarter until calls fail, and then tries the rates between.

    A rate fails when it does so twice: the machine may have been busy with something else.
    """
    steps: list[Result] = []

    def is_good(rate: float) -> bool:
        return passes(rate) or passes(rate)

    def passes(rate: float) -> bool:
        step = load.caller("--rate", str(rate), "--warm", str(WARM_S), *CHANNELS, *ANNOUNCED)
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
    """Three times the knee, beside the knee itself: the machine is not equally fast at all times.

    Each round offers the knee and then three times of it, to callers that announce their items and
    to callers that do not. A process asks for health meanwhile.
    """
    offers = {
        "knee": (knee, ANNOUNCED),
        "announced": (3 * knee, ANNOUNCED),
        "not announced": (3 * knee, ()),
    }
    rounds: list[Result] = []
    for _ in range(load.given.rounds):
        rounds.append({name: offered(load, *offer) for name, offer in offers.items()})
        goodput = {name: entry["goodput_per_second"] for name, entry in rounds[-1].items()}
        print(f"in time per second: {goodput}", file=sys.stderr)
    figures = {
        name: over_rounds([{**entry[name], "knee": entry["knee"]} for entry in rounds])
        for name in offers
    }
    return {"knee_per_second": knee, **figures, "rounds": rounds}


def over_rounds(rounds: list[Result]) -> Result:
    """The lowest, the middle and the highest value over the rounds of what matters most."""
    values = {
        "goodput_of_knee": [
            entry["goodput_per_second"] / entry["knee"]["goodput_per_second"] for entry in rounds
        ],
        "refusal_p50_ms": [
            entry["latency_ms"][REFUSED]["p50"]
            for entry in rounds
            if REFUSED in entry["latency_ms"]
        ],
        "health_p99_ms": [entry["health_ms"]["OK"]["p99"] for entry in rounds],
    }
    return {
        name: {
            "min": round(min(found), 3),
            "median": round(statistics.median(found), 3),
            "max": round(max(found), 3),
        }
        for name, found in values.items()
        if found
    }


def offered(load: Load, rate: float, headers: tuple[str, ...]) -> Result:
    """What becomes of calls at a rate, beside a process that asks for health 20 times a second."""
    cpu = load.server.cpu_s()
    started = time.perf_counter()
    seconds = load.given.seconds + 2
    calls = load.start("--rate", str(rate), "--warm", "2", *CHANNELS, *headers, seconds=seconds)
    health = load.start("--health", "--rate", "20", "--warm", "2", seconds=seconds)
    result = {**finished(calls), "health_ms": finished(health)["latency_ms"]}
    elapsed = time.perf_counter() - started
    result["server_cores"] = {
        name: round(used / elapsed, 3) for name, used in load.server.cpu_s(since=cpu).items()
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


@contextlib.contextmanager
def payload(given: argparse.Namespace) -> Iterator[Path]:
    """A file with the bytes of a request for one image."""
    data = image(*IMAGES[given.images], seed=0)
    request = embedding_pb2.EmbedRequest(inputs=[embedding_pb2.EmbedInput(image=data)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "request"
        path.write_bytes(request.SerializeToString())
        yield path


if __name__ == "__main__":
    main()
