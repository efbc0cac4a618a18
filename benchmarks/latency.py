"""Latency over load: our server and infinity-emb under calls that do not wait for each other.

Calls with one image each start at the times of a Poisson process. A latency counts from the time at
which its call should have started. The rate is raised step by step, each time for both servers, and
no further for a server that fell behind. The callers share the servers' cores.

    python -m benchmarks.latency --infinity ENV/bin/infinity_emb        # about five minutes
    python -m benchmarks.latency --plot                                 # draws the last result
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.arguments import above, at_least
from benchmarks.clip_models import GEOMETRIES, WORK, prepare
from benchmarks.figures import RESULTS, described, summary
from benchmarks.http2_calls import Call
from benchmarks.peers.base import EmbeddingCaller, RefusedError
from benchmarks.peers.infinity_peer import infinity
from benchmarks.peers.sparseclip_peer import sparseclip
from benchmarks.sample_collections import DISTINCT, IMAGES, image

RATES = (4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80)
DEADLINE_S = 5.0
"""An answer that comes later is not counted as good."""
KEPT_UP = 0.9
"""The share of a step's calls that must be answered in time, or the server has fallen behind."""
MIN_CALLS = 40
"""Of a step: slow rates take longer."""
WARM_CALLS = 4

Step = dict[str, Any]


def main() -> None:
    """Measures, prints, adds the result to benchmarks/results/latency.json, and draws it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", choices=GEOMETRIES, default="vit_b32")
    parser.add_argument("--work", type=Path, default=WORK, help="folder that keeps the models")
    parser.add_argument("--images", choices=IMAGES, default="jpeg512")
    parser.add_argument("--infinity", help="the command infinity_emb of its environment")
    parser.add_argument("--serve", default="", help="flags for our server, as one argument")
    parser.add_argument(
        "--rates", type=above(0), nargs="+", default=RATES, help="images per second, rising"
    )
    parser.add_argument("--seconds", type=above(0), default=6.0, help="length of a step")
    parser.add_argument("--rounds", type=at_least(1), default=2, help="how often all is repeated")
    parser.add_argument("--plot", action="store_true", help="only draw what was measured before")
    parser.add_argument("--out", type=Path, default=RESULTS / "latency.json")
    given = parser.parse_args()
    results = json.loads(given.out.read_text()) if given.out.exists() else {}
    if not given.plot:
        results[given.model] = compared(given)
        given.out.write_text(json.dumps(results, indent=1) + "\n")
    draw(results[given.model], given.out.with_name(f"{given.out.stem}_{given.model}.png"))


def compared(given: argparse.Namespace) -> dict[str, Any]:
    """Starts the servers and measures them."""
    began = time.perf_counter()
    model = prepare(given.model, given.work)
    data = [image(*IMAGES[given.images], seed) for seed in range(DISTINCT)]
    with contextlib.ExitStack() as stack:
        flags = shlex.split(given.serve)
        servers = {"sparseclip": stack.enter_context(sparseclip(model.dense, *flags))}
        if given.infinity:
            servers["infinity"] = stack.enter_context(infinity(model, given.infinity))

        async def measured() -> dict[str, list[Step]]:
            async with contextlib.AsyncExitStack() as calling:
                callers = {
                    name: await calling.enter_async_context(server.calling())
                    for name, server in servers.items()
                }
                return await rounds(callers, data, given)

        steps = asyncio.run(measured())
        versions = {name: server.description for name, server in servers.items()}
    result = {
        "steps": steps,
        "deadline_s": DEADLINE_S,
        "rounds": given.rounds,
        "images": given.images,
        "random_weights": True,
        "versions": versions,
        "seconds": round(time.perf_counter() - began),
        "machine": described(),
    }
    print(json.dumps(result, indent=1))
    return result


async def rounds(
    callers: dict[str, EmbeddingCaller], data: Sequence[bytes], given: argparse.Namespace
) -> dict[str, list[Step]]:
    """Every rate for every server in turn, `given.rounds` times."""
    found: dict[str, dict[float, list[Step]]] = {name: {} for name in callers}
    for number in range(given.rounds):
        behind: set[str] = set()
        for rate in sorted(given.rates):
            for name, caller in callers.items():
                if name in behind:
                    continue
                messages = [caller.message([entry]) for entry in data]
                seconds = max(given.seconds, MIN_CALLS / rate)
                calls = await offered(caller, messages, rate, seconds, seed=number)
                step = step_of(calls, rate)
                found[name].setdefault(rate, []).append(step)
                if step["answered_in_time"] < KEPT_UP:
                    behind.add(name)
            print(f"round {number + 1} of {given.rounds}: {rate:g}/s", file=sys.stderr, flush=True)
    return {
        name: [merged(rate, steps) for rate, steps in rates.items()]
        for name, rates in found.items()
    }


async def offered(
    caller: EmbeddingCaller, messages: Sequence[bytes], rate: float, seconds: float, seed: int
) -> list[Call]:
    """Starts calls at a rate, and waits for the last of them."""
    for message in messages[:WARM_CALLS]:  # in turn: what the step before left is over then
        await caller.send(message)
    rng = random.Random(seed)
    tasks: list[asyncio.Task[Call]] = []
    due = time.perf_counter()
    end = due + seconds
    while (due := due + rng.expovariate(rate)) < end:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        message = messages[len(tasks) % len(messages)]
        tasks.append(asyncio.create_task(_call(caller, message, due)))
    return list(await asyncio.gather(*tasks))


async def _call(caller: EmbeddingCaller, message: bytes, due: float) -> Call:
    started, outcome = time.perf_counter(), "OK"
    try:
        await caller.send(message)
    except RefusedError:
        outcome = "refused"
    return Call(due, started, time.perf_counter(), outcome)


def step_of(calls: Sequence[Call], rate: float) -> Step:
    """The latencies of one step, and how many calls were answered in time."""
    times = sorted((call.ended - call.due) * 1e3 for call in calls if call.outcome == "OK")
    good = sum(value <= DEADLINE_S * 1e3 for value in times)
    return {
        "rate": rate,
        "calls": len(calls),
        "refused": sum(call.outcome == "refused" for call in calls),
        "answered_in_time": round(good / len(calls), 3),
        "p50_ms": at_share(times, 0.5),
        "p95_ms": at_share(times, 0.95),
    }


def at_share(ordered: Sequence[float], share: float) -> float | None:
    """The value that a share of the ordered values does not exceed; None without values."""
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 2)


def merged(rate: float, steps: Sequence[Step]) -> Step:
    """Median and range over rounds."""
    figures: Step = {"rate": rate, "rounds": list(steps)}
    for key in ("p50_ms", "p95_ms", "answered_in_time"):
        values = [step[key] for step in steps if step[key] is not None]
        figures[key] = summary(values) if values else None
    return figures


def draw(result: dict[str, Any], file: Path) -> None:
    """Draws the median and the 95th percentile over the rate, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    figure, axes = pyplot.subplots(figsize=(7.0, 4.2), dpi=150)
    for name, colour in (("sparseclip", "#1b6ca8"), ("infinity", "#c0562f")):
        steps = [step for step in result["steps"].get(name, []) if step["p50_ms"]]
        for key, style, label in (("p50_ms", "-", "median"), ("p95_ms", "--", "95th percentile")):
            axes.plot(
                [step["rate"] for step in steps],
                [step[key]["median"] for step in steps],
                style,
                marker="o" if key == "p50_ms" else None,
                color=colour,
                label=f"{name}, {label}",
            )
        behind = [step for step in steps if step["answered_in_time"]["median"] < KEPT_UP]
        for step in behind:
            axes.plot(step["rate"], step["p50_ms"]["median"], "X", color=colour, markersize=11)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("images per second, offered (X: the server fell behind)")
    axes.set_ylabel("latency in ms")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(file)


if __name__ == "__main__":
    main()
