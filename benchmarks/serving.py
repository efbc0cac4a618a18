"""The server compared with its engine: the ratio of throughputs, and what a call costs beside it.

The server runs in a process of its own, as users start it. This process sends it encoded images,
and shares its cores. Blocks of model-only runs and blocks of served calls alternate, so that other
load on the machine affects both. Each figure is the median over blocks, with its range.

    python -m benchmarks.serving                                        # the shipped bundle
    python -m benchmarks.serving --model vit_b32 --engine onnxruntime   # about four minutes
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, get_args

import grpc

from benchmarks.arguments import above, at_least
from benchmarks.clip_models import GEOMETRIES, WORK, prepare
from benchmarks.engine_alone import EngineAlone
from benchmarks.figures import RESULTS, Summary, add_result, described, summary
from benchmarks.running_server import LONG_QUEUE, serving
from benchmarks.sample_collections import DISTINCT, IMAGES, image
from bundle.store import default_bundle, open_bundle
from serving.engines import AUTO, ENGINES, EnginePrecision
from serving.engines.base import EngineConfig
from sparseclip.v1 import embedding_pb2, embedding_pb2_grpc


def main() -> None:
    """Measures, prints, and adds the result to benchmarks/results/serving.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", choices=("demo", *GEOMETRIES), default="demo")
    parser.add_argument("--kind", choices=("sparse", "dense"), default="sparse")
    parser.add_argument("--work", type=Path, default=WORK, help="folder that keeps the models")
    parser.add_argument("--engine", choices=ENGINES.choices, default=AUTO)
    parser.add_argument("--precision", choices=(AUTO, *get_args(EnginePrecision)), default=AUTO)
    parser.add_argument("--images", choices=IMAGES, default="jpeg512")
    parser.add_argument("--blocks", type=at_least(1), default=7, help="alternations of all arms")
    parser.add_argument(
        "--seconds", type=above(0, up_to=100), default=4.0, help="length of a block"
    )
    parser.add_argument(
        "--batch",
        type=at_least(1, up_to=DISTINCT),
        default=16,
        help="images per run of the engine and per call",
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "serving.json")
    given = parser.parse_args()
    began = time.perf_counter()
    bundle = bundle_of(given)
    flags = ["--batch-max-images", str(given.batch), "--engine", given.engine]
    flags += ["--precision", given.precision]
    data = [image(*IMAGES[given.images], seed) for seed in range(DISTINCT)]
    alone = EngineAlone(bundle, data, EngineConfig(name=given.engine, precision=given.precision))
    with serving(bundle, *LONG_QUEUE, *flags) as server:
        result = asyncio.run(measure(alone, server.address, data, given))
    manifest = open_bundle(bundle).manifest
    result |= {
        "model": f"{manifest.name} {manifest.version}, {manifest.architecture.family}",
        "engine": alone.description,
        "batch": given.batch,
        "blocks": given.blocks,
        "block_seconds": given.seconds,
        "seconds": round(time.perf_counter() - began),
        "machine": described(),
    }
    print(json.dumps({key: value for key, value in result.items() if key != "raw"}, indent=1))
    chosen = [value for value in (given.engine, given.precision) if value != AUTO]
    add_result(given.out, ", ".join([given.model, given.kind, given.images, *chosen]), result)


def bundle_of(given: argparse.Namespace) -> Path:
    """The bundle to serve."""
    if given.model == "demo":
        return default_bundle()
    model = prepare(given.model, given.work)
    return model.dense if given.kind == "dense" else model.sparse


async def measure(
    alone: EngineAlone, address: str, data: list[bytes], given: argparse.Namespace
) -> dict[str, Any]:
    """Alternates what is compared. Rates are in images per second, times in milliseconds."""
    batch, seconds = given.batch, given.seconds
    engine, decoded = f"engine only, batch {batch}", "decode and engine, no server"
    rates: dict[str, list[float]] = {}
    one: dict[str, list[float]] = {}
    run_alone: list[float] = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = embedding_pb2_grpc.EmbeddingServiceStub(channel)  # type: ignore[no-untyped-call]
        served: dict[str, Callable[[], AsyncIterator[int]]] = {
            f"served, {batch} a call, 4 calls": lambda: calls(stub, data, batch, 4),
            "served, 1 a call, 32 calls": lambda: calls(stub, data, 1, 32),
            "served, stream": lambda: stream(stub, data),
        }
        alone.warm(batch)
        for block in range(given.blocks):
            for name, rate in ((engine, alone.rate), (decoded, alone.decoded)):
                rates.setdefault(name, []).append(rate(batch, seconds))
            for name, arm in served.items():
                rates.setdefault(name, []).append(await served_rate(arm(), seconds))
            for name, times in (await single(stub, data, seconds)).items():
                one.setdefault(name, []).append(statistics.median(times))
            run_alone.append(alone.run_ms(seconds / 2))
            print(f"block {block + 1} of {given.blocks}", file=sys.stderr, flush=True)
    return {
        "images_per_second": {name: summary(values) for name, values in rates.items()},
        "served_over_engine_only": over(rates, engine),
        "served_over_decode_and_engine": over(rates, decoded),
        "single_image_ms": {name: summary(values) for name, values in one.items()}
        | {"engine_alone": summary(run_alone)},
        "raw": {"images_per_second": rates},
    }


def over(rates: dict[str, list[float]], baseline: str) -> dict[str, Summary]:
    """Every served rate divided by the baseline's of the same block."""
    return {
        name: summary([rate / base for rate, base in zip(values, rates[baseline], strict=True)])
        for name, values in rates.items()
        if name.startswith("served")
    }


async def served_rate(answered: AsyncIterator[int], seconds: float) -> float:
    """Answered images per second, from the first answer to the last one that counts."""
    done, started, elapsed = 0, 0.0, 0.0
    async with contextlib.aclosing(answered) as counts:  # type: ignore[type-var]
        async for count in counts:
            if not started:
                started = time.perf_counter()
                continue
            done += count
            elapsed = time.perf_counter() - started
            if elapsed > seconds:
                break
    # Not read here: what is still in flight is awaited meanwhile, and is not counted.
    return done / elapsed


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


async def single(stub: Any, data: list[bytes], seconds: float) -> dict[str, list[float]]:
    """Milliseconds of calls with one image, one after another: in all, beyond the engine's, and by
    the server's own clock those of each stage. What is beyond all stages is gRPC's on both sides,
    and the caller's."""
    rows: dict[str, list[float]] = {}
    started = time.perf_counter()
    for number in itertools.count():
        if time.perf_counter() - started > seconds:
            break
        inputs = [embedding_pb2.EmbedInput(image=data[number % len(data)])]
        begun = time.perf_counter()
        reply = await stub.Embed(embedding_pb2.EmbedRequest(inputs=inputs), timeout=60)
        total = (time.perf_counter() - begun) * 1e3
        check(reply.results)
        stages = reply.timings
        decode, queue, engine = (
            us / 1e3 for us in (stages.decode_us, stages.queue_us, stages.inference_us)
        )
        row = {
            "p50": total,
            "p50_beyond_engine": total - engine,
            "decoding": decode,
            "queue": queue,
            "beyond_all_stages": total - decode - queue - engine,
        }
        for name, value in row.items():
            rows.setdefault(name, []).append(value)
    return rows


def check(results: Any) -> None:
    """Raises when an image failed: a rate of failures would mean nothing."""
    for result in results:
        if result.status.code:
            raise RuntimeError(f"an image failed: {result.status.message}")


if __name__ == "__main__":
    main()
