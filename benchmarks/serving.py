"""The server compared with its engine: the ratio of throughputs, and what a call costs beside it.

The server runs in a process of its own, as users start it. This process sends it encoded images,
and shares its cores. Blocks of model-only runs and blocks of served calls alternate, so that other
load on the machine affects both. Each figure is the median over blocks, with its range.

    python -m benchmarks.serving                        # the shipped bundle
    python -m benchmarks.serving --bundle models/demo --images png128
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from PIL import Image

from benchmarks.arguments import above, at_least
from benchmarks.engine_alone import EngineAlone
from bundle.store import default_bundle, open_bundle
from serving.core.child_process import python_path
from serving.engines.base import available_cores
from sparseclip.v1 import embedding_pb2, embedding_pb2_grpc

RESULTS = Path(__file__).parent / "results"
IMAGES = {"png128": ((128, 128), "PNG"), "jpeg512": ((512, 384), "JPEG")}
DISTINCT = 32
"""How many images differ from each other. A batch is made of them."""

Summary = dict[str, float]


def main() -> None:
    """Measures, prints and writes benchmarks/results/serving.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, help="default: the demo bundle")
    parser.add_argument("--images", choices=IMAGES, default="jpeg512")
    parser.add_argument("--blocks", type=at_least(1), default=7, help="alternations of all arms")
    parser.add_argument(
        "--seconds", type=above(0, up_to=100), default=4.0, help="length of a block"
    )
    parser.add_argument(
        "--batch",
        type=at_least(1, up_to=DISTINCT),
        default=16,
        help="images per model-only run and per call",
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "serving.json")
    arguments = parser.parse_args()
    bundle = arguments.bundle or default_bundle()
    with server(bundle, arguments.batch) as address:
        result = asyncio.run(measure(bundle, address, arguments))
    manifest = open_bundle(bundle).manifest
    result["model"] = f"{manifest.name} {manifest.version}, {manifest.architecture.family}"
    # Paths belong to this machine; `model` says which bundle it was.
    result["arguments"] = {
        key: str(value) for key, value in vars(arguments).items() if not isinstance(value, Path)
    }
    result["machine"] = machine()
    text = json.dumps(result, indent=1)
    print(text)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text + "\n")


async def measure(bundle: Path, address: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Alternates what is compared. Throughputs are in images per second, times in milliseconds."""
    data = [image(*IMAGES[arguments.images], seed) for seed in range(DISTINCT)]
    alone = EngineAlone(bundle, data)
    whole, parallel, decoded = (
        f"model only, batch {arguments.batch}",
        f"model only, batch {arguments.batch}, runs as the server's",
        "decode and model, no server",
    )
    baselines = [
        (whole, alone.one_run, arguments.batch),
        ("model only, batch 1", alone.one_run, 1),
        (parallel, alone.as_served, arguments.batch),
        (decoded, alone.decoded, arguments.batch),
    ]
    rates: dict[str, list[float]] = {}
    extra: list[list[float]] = []
    single_call: list[list[float]] = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = embedding_pb2_grpc.EmbeddingServiceStub(channel)  # type: ignore[no-untyped-call]
        served: dict[str, Callable[[], AsyncIterator[int]]] = {
            f"served, {arguments.batch} a call, 4 calls": lambda: calls(
                stub, data, arguments.batch, 4
            ),
            "served, 1 a call, 32 calls": lambda: calls(stub, data, 1, 32),
            "served, stream": lambda: stream(stub, data),
        }
        for _ in range(arguments.blocks):
            for name, rate, batch in baselines:
                rates.setdefault(name, []).append(rate(batch, arguments.seconds))
            for name, arm in served.items():
                rates.setdefault(name, []).append(await served_rate(arm(), arguments.seconds))
            beyond, total = await single(stub, data, arguments.seconds)
            extra.append(beyond)
            single_call.append(total)
    return {
        "images_per_second": {name: summary(values) for name, values in rates.items()},
        "served_over_model_only": over(rates, whole),
        "served_over_model_only_with_the_servers_runs": over(rates, parallel),
        "served_over_decode_and_model": over(rates, decoded),
        "single_image_ms": {
            "p50": summary([statistics.median(block) for block in single_call]),
            "p50_beyond_engine": summary([statistics.median(block) for block in extra]),
        },
        "raw": {"images_per_second": rates, "calls_measured": sum(map(len, single_call))},
    }


def over(rates: dict[str, list[float]], baseline: str) -> dict[str, Summary]:
    """Every served rate divided by the baseline's of the same block."""
    return {
        name: summary([rate / base for rate, base in zip(values, rates[baseline], strict=True)])
        for name, values in rates.items()
        if name.startswith("served")
    }


async def served_rate(answered: AsyncIterator[int], seconds: float) -> float:
    """Answered images per second, counted from the first answer."""
    done, started = 0, 0.0
    async with contextlib.aclosing(answered) as counts:  # type: ignore[type-var]
        async for count in counts:
            if not started:
                started = time.perf_counter()
                continue
            done += count
            if time.perf_counter() - started > seconds:
                break
    return done / (time.perf_counter() - started)


async def calls(stub: Any, data: list[bytes], each: int, at_once: int) -> AsyncIterator[int]:
    """Endless unary calls, `at_once` in flight; gives the images of each call as it is answered."""
    inputs = [embedding_pb2.EmbedInput(image=entry) for entry in data]
    request = embedding_pb2.EmbedRequest(inputs=inputs[:each])
    pending = {asyncio.ensure_future(stub.Embed(request, timeout=60)) for _ in range(at_once)}
    try:
        while True:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            pending |= {asyncio.ensure_future(stub.Embed(request, timeout=60)) for _ in done}
            for call in done:
                check(call.result().results)
                yield each
    finally:
        await asyncio.gather(*pending, return_exceptions=True)


async def stream(stub: Any, data: list[bytes]) -> AsyncIterator[int]:
    """One endless stream; gives 1 for each answer."""

    async def messages() -> AsyncIterator[embedding_pb2.EmbedStreamRequest]:
        yield embedding_pb2.EmbedStreamRequest(start=embedding_pb2.EmbedStreamStart())
        number = 0
        while True:
            entry = embedding_pb2.EmbedInput(id=str(number), image=data[number % len(data)])
            yield embedding_pb2.EmbedStreamRequest(input=entry)
            number += 1

    call = stub.EmbedStream(messages(), timeout=120)
    try:
        async for reply in call:
            check([reply.result])
            yield 1
    finally:
        call.cancel()
        await asyncio.sleep(0.5)  # what is in flight must not run into the next block


async def single(stub: Any, data: list[bytes], seconds: float) -> tuple[list[float], list[float]]:
    """Milliseconds of calls with one image, one after another: beyond the engine's, and in all."""
    beyond: list[float] = []
    total: list[float] = []
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        inputs = [embedding_pb2.EmbedInput(image=data[len(total) % len(data)])]
        begun = time.perf_counter()
        reply = await stub.Embed(embedding_pb2.EmbedRequest(inputs=inputs), timeout=60)
        total.append((time.perf_counter() - begun) * 1e3)
        beyond.append(total[-1] - reply.timings.inference_us / 1e3)
        check(reply.results)
    return beyond, total


def check(results: Any) -> None:
    """Raises when an image failed: a rate of failures would mean nothing."""
    for result in results:
        if result.status.code:
            raise RuntimeError(f"an image failed: {result.status.message}")


@contextlib.contextmanager
def server(bundle: Path, batch: int) -> Iterator[str]:
    """`sparseclip serve` on a free port."""
    flags = ["--bundle", str(bundle), "--port", "0", "--batch-max-images", str(batch)]
    process = subprocess.Popen(
        [sys.executable, "-m", "serving.cli.main", "serve", *flags],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": python_path()},
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        if "serving on " not in line:
            raise SystemExit(line + process.stderr.read())
        yield line.rsplit(" ", 1)[1].strip()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        process.stderr.close()


def image(size: tuple[int, int], form: str, seed: int) -> bytes:
    """Smooth noise, encoded: about as many bytes as a photo or icon of that size has."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1] // 8, size[0] // 8, 3))
    out = io.BytesIO()
    Image.fromarray(noise.astype(np.uint8)).resize(size).save(out, form)
    return out.getvalue()


def summary(values: list[float]) -> Summary:
    """Median and range over blocks."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


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


if __name__ == "__main__":
    main()
