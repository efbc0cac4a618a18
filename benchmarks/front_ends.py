"""Compares front ends over one engine with one process that does all: rates, latency, CPU time.

The callers use several connections, which the system divides among the front ends. The servers are
measured in turns, and each is started anew. Callers, decode workers and the engine share the cores.
So on two cores more front ends cannot answer more images, but the figures show what they cost.

    python -m benchmarks.front_ends                       # the shipped bundle, about three minutes
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import psutil

from benchmarks.arguments import above, at_least
from benchmarks.figures import RESULTS, described, summary
from benchmarks.running_server import LONG_QUEUE, Server, serving
from benchmarks.sample_collections import DISTINCT, IMAGES, image
from benchmarks.serving import calls, single
from bundle.store import default_bundle, open_bundle
from sparseclip.v1 import embedding_pb2_grpc

CONNECTIONS = 4
CALLS = {"1 a call, 32 calls": (1, 32), "16 a call, 4 calls": (16, 4)}
"""Images in a call, and calls in flight on all connections together."""


def main() -> None:
    """Measures, prints, and writes benchmarks/results/front_ends.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, help="default: the demo bundle")
    parser.add_argument("--front-ends", type=at_least(0), nargs="+", default=[0, 1, 2])
    parser.add_argument("--engine", default="onnxruntime")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--images", choices=IMAGES, default="jpeg512")
    parser.add_argument("--blocks", type=at_least(1), default=3, help="alternations of all servers")
    parser.add_argument("--seconds", type=above(0, up_to=100), default=4.0, help="of a block")
    parser.add_argument("--out", type=Path, default=RESULTS / "front_ends.json")
    given = parser.parse_args()
    bundle = given.bundle or default_bundle()
    data = [image(*IMAGES[given.images], seed) for seed in range(DISTINCT)]
    rows: dict[int, dict[str, list[float]]] = {number: {} for number in given.front_ends}
    for block in range(given.blocks):
        for number, measured in rows.items():
            flags = ["--engine", given.engine, "--precision", given.precision]
            with serving(bundle, *LONG_QUEUE, *flags, "--front-ends", str(number)) as server:
                row = asyncio.run(measure(server, data, given.seconds))
            for name, value in row.items():
                measured.setdefault(name, []).append(value)
        print(f"block {block + 1} of {given.blocks}", flush=True)
    manifest = open_bundle(bundle).manifest
    result = {
        "model": f"{manifest.name} {manifest.version}",
        "engine": f"{given.engine} {given.precision}",
        "images": given.images,
        "connections": CONNECTIONS,
        "machine": described(),
        "front_ends": {
            str(number): {name: summary(values) for name, values in measured.items()}
            for number, measured in rows.items()
        },
        "raw": {str(number): measured for number, measured in rows.items()},
    }
    print(json.dumps({key: value for key, value in result.items() if key != "raw"}, indent=1))
    given.out.write_text(json.dumps(result, indent=1) + "\n")


async def measure(server: Server, data: list[bytes], seconds: float) -> dict[str, float]:
    """Images per second and milliseconds of CPU per image of each load, and milliseconds that one
    image takes alone."""
    row: dict[str, float] = {}
    async with contextlib.AsyncExitStack() as stack:
        own_connection = [("grpc.use_local_subchannel_pool", 1)]
        stubs: list[Any] = [
            embedding_pb2_grpc.EmbeddingServiceStub(  # type: ignore[no-untyped-call]
                await stack.enter_async_context(
                    grpc.aio.insecure_channel(server.address, own_connection)
                )
            )
            for _ in range(CONNECTIONS)
        ]
        for name, (each, at_once) in CALLS.items():
            loads = [calls(stub, data, each, at_once // CONNECTIONS) for stub in stubs]
            rate, used = await measured(server, _merged(loads), seconds)
            row[f"{name}: images/s"] = rate
            for process, ms in used.items():
                row[f"{name}: ms of CPU per image, {process}"] = ms
        times = await single(stubs[0], data, seconds)
        row["one image: ms"] = sorted(times["p50"])[len(times["p50"]) // 2]
    return row


async def measured(
    server: Server, answered: AsyncIterator[int], seconds: float
) -> tuple[float, dict[str, float]]:
    """Images per second, and milliseconds of CPU per image, after a second to warm up."""
    images, started = 0, 0.0
    before: dict[str, float] = {}
    begun = time.perf_counter()
    async with contextlib.aclosing(answered) as counts:  # type: ignore[type-var]
        async for count in counts:
            now = time.perf_counter()
            if before:
                images += count
                if now - started > seconds:
                    break
            elif now - begun > 1.0:
                started, before = now, cpu_s(server.process)
        after = cpu_s(server.process)
        elapsed = time.perf_counter() - started
    return images / elapsed, {
        process: 1e3 * (after[process] - used) / images for process, used in before.items()
    }


async def _merged(loads: list[AsyncIterator[int]]) -> AsyncIterator[int]:
    """What all loads give, as it comes."""
    counts: asyncio.Queue[int | Exception] = asyncio.Queue()

    async def drain(load: AsyncIterator[int]) -> None:
        try:
            async with contextlib.aclosing(load) as given:  # type: ignore[type-var]
                async for count in given:
                    counts.put_nowait(count)
        except Exception as error:
            counts.put_nowait(error)

    tasks = [asyncio.ensure_future(drain(load)) for load in loads]
    try:
        while True:
            if isinstance(count := await counts.get(), Exception):
                raise count
            yield count
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def cpu_s(process: psutil.Process) -> dict[str, float]:
    """CPU seconds that the processes of a server have used so far, by what they do."""
    used = {"the process that was started": _own_s(process)}
    for child in process.children(recursive=True):
        line = " ".join(child.cmdline()[:5])
        names = {
            "engine_host": "the engine's process",
            "front_end": "front ends",
            "worker": "decoders",
        }
        kind = next(name for part, name in names.items() if part in line)
        used[kind] = used.get(kind, 0.0) + _own_s(child)
    return used


def _own_s(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:2]))


if __name__ == "__main__":
    main()
