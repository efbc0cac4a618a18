"""The protocols of one server beside each other: what another one than our own costs.

One server runs in a process of its own, as users start it. This process calls it through each door
in turn, with the same images, and shares its cores. Blocks of the doors alternate, so that other
load on the machine affects all; each is compared with our own contract in the same block. A figure
is the median over blocks, with its range.

    python -m benchmarks.doors                    # the shipped bundle, about two minutes
    python -m benchmarks.doors --model vit_b32

A door is a row of DOORS: how to encode a call once, to send it, and to check the reply.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
from numpy.typing import NDArray

from benchmarks.arguments import above, at_least
from benchmarks.clip_models import GEOMETRIES, WORK, prepare
from benchmarks.closed_loop import closed_loop
from benchmarks.figures import RESULTS, add_result, described, summaries
from benchmarks.http_caller import HttpCaller
from benchmarks.peers.base import EmbeddingCaller
from benchmarks.peers.sparseclip_peer import SparseclipCaller, reply_of
from benchmarks.running_server import LONG_QUEUE, Server, serving
from benchmarks.sample_collections import DISTINCT, IMAGES, image
from bundle.store import default_bundle, open_bundle
from serving.rpc.open_inference import open_inference_pb2
from serving.rpc.open_inference.service import MODEL_INFER
from serving.rpc.open_inference.tensors import joined

OWN = "own gRPC"
SETTINGS = {
    "1 a call, 1 at once": (1, 1),
    "1 a call, 32 at once": (1, 32),
    "16 a call, 4 at once": (16, 4),
}
"""Images of a call, and calls in flight."""
CODE = ("indices", "values", "active", "norm")
"""What a reply of our own contract holds of a code."""
WARM_S = 2.0


class OpenInferenceCaller:
    """Calls ModelInfer, for what Embed sends by default."""

    def __init__(self, channel: grpc.aio.Channel, is_sparse: bool) -> None:
        self._send = channel.unary_unary(MODEL_INFER, None, None)
        self._outputs = CODE if is_sparse else ("dense",)

    def message(self, images: Sequence[bytes]) -> bytes:
        """See EmbeddingCaller.message."""
        request = open_inference_pb2.ModelInferRequest(raw_input_contents=[joined(images)])
        request.inputs.add(name="image", datatype="BYTES", shape=[len(images)])
        for name in self._outputs:
            request.outputs.add(name=name)
        return request.SerializeToString()

    async def send(self, message: bytes) -> bytes:
        """See EmbeddingCaller.send. An image that fails fails the call."""
        reply = await reply_of(self._send, message)
        open_inference_pb2.ModelInferResponse.FromString(reply)
        return reply

    def vectors(self, reply: bytes) -> NDArray[np.float32]:
        """See EmbeddingCaller.vectors."""
        answer = open_inference_pb2.ModelInferResponse.FromString(reply)
        [tensor] = (one for one in answer.outputs if one.name == "dense")
        raw = answer.raw_output_contents[list(answer.outputs).index(tensor)]
        return np.frombuffer(raw, dtype="<f4").reshape(tensor.shape)


@contextlib.asynccontextmanager
async def own(server: Server, is_sparse: bool) -> AsyncIterator[EmbeddingCaller]:
    """Embed of our own contract."""
    async with _channel(server) as channel:
        yield SparseclipCaller(channel)


@contextlib.asynccontextmanager
async def open_inference(server: Server, is_sparse: bool) -> AsyncIterator[EmbeddingCaller]:
    """ModelInfer of the Open Inference Protocol."""
    async with _channel(server) as channel:
        yield OpenInferenceCaller(channel, is_sparse)


@contextlib.asynccontextmanager
async def http(server: Server, is_sparse: bool) -> AsyncIterator[EmbeddingCaller]:
    """`/v1/embed`: Embed of our own contract as JSON."""
    caller = HttpCaller(server.http_address, is_sparse)
    yield caller
    await caller.close()


def _channel(server: Server) -> grpc.aio.Channel:
    """A channel without a limit on the reply's size, and without retries, which hide refusals."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0)]
    return grpc.aio.insecure_channel(server.address, options)


Door = Callable[[Server, bool], AbstractAsyncContextManager[EmbeddingCaller]]
"""Is given the server, and whether its model has concepts."""

DOORS: dict[str, Door] = {OWN: own, "open inference": open_inference, "http": http}


def main() -> None:
    """Measures, prints, and adds the result to benchmarks/results/doors.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", choices=("demo", *GEOMETRIES), default="demo")
    parser.add_argument("--work", type=Path, default=WORK, help="folder that keeps the models")
    parser.add_argument("--images", choices=IMAGES, default="jpeg512")
    parser.add_argument("--doors", choices=DOORS, nargs="+", default=list(DOORS))
    parser.add_argument("--settings", choices=SETTINGS, nargs="+", default=list(SETTINGS))
    parser.add_argument("--blocks", type=at_least(1), default=7, help="alternations of all doors")
    parser.add_argument("--seconds", type=above(0), default=2.5, help="length of a block")
    parser.add_argument("--out", type=Path, default=RESULTS / "doors.json")
    given = parser.parse_args()
    if OWN not in given.doors:
        parser.error(f"--doors: {OWN!r} is what the others are compared with")
    began = time.perf_counter()
    bundle = default_bundle() if given.model == "demo" else prepare(given.model, given.work).sparse
    data = [image(*IMAGES[given.images], seed) for seed in range(DISTINCT)]
    manifest = open_bundle(bundle).manifest
    with serving(bundle, "--http-port", "0", *LONG_QUEUE) as server:
        result = asyncio.run(measure(server, manifest.architecture.is_sparse, data, given))
    result |= {
        "model": f"{manifest.name} {manifest.version}, {manifest.architecture.family}",
        "blocks": given.blocks,
        "block_seconds": given.seconds,
        "seconds": round(time.perf_counter() - began),
        "machine": described(),
    }
    print(json.dumps({key: value for key, value in result.items() if key != "raw"}, indent=1))
    add_result(given.out, f"{given.model}, {given.images}", result)


Figures = dict[str, dict[str, list[float]]]
"""Setting, door: a figure of each block."""


async def measure(
    server: Server, is_sparse: bool, data: list[bytes], given: argparse.Namespace
) -> dict[str, Any]:
    """Alternates the doors. Rates are in images per second, times in milliseconds."""
    rates: Figures = {}
    latencies: Figures = {}
    cpu: Figures = {}
    async with contextlib.AsyncExitStack() as stack:
        callers = {
            name: await stack.enter_async_context(DOORS[name](server, is_sparse))
            for name in given.doors
        }
        for setting in given.settings:
            for caller in callers.values():
                await one_block(server, caller, data, setting, WARM_S)  # does not count
        for block in range(given.blocks):
            # Each door is as often the first one as the last one.
            order = list(callers) if block % 2 else list(callers)[::-1]
            for setting in given.settings:
                for name in order:
                    seconds = given.seconds
                    figures = await one_block(server, callers[name], data, setting, seconds)
                    for kind, value in zip((rates, latencies, cpu), figures, strict=True):
                        kind.setdefault(setting, {}).setdefault(name, []).append(value)
            print(f"block {block + 1} of {given.blocks}", file=sys.stderr, flush=True)
    return {
        "images_per_second": summaries(rates),
        "latency_p50_ms": summaries(latencies),
        "server_cpu_ms_per_image": summaries(cpu),
        "rate_over_own": summaries(over_own(rates)),
        "latency_over_own": summaries(over_own(latencies)),
        "raw": {"images_per_second": rates, "latency_p50_ms": latencies},
    }


class BlockFigures(NamedTuple):
    """What one block of a door measured."""

    images_per_second: float
    latency_p50_ms: float
    server_cpu_ms: float
    """CPU time of the server's own process for an image; decoding is not in it."""


async def one_block(
    server: Server, caller: EmbeddingCaller, data: list[bytes], setting: str, seconds: float
) -> BlockFigures:
    """Calls through one door for so long."""
    each, at_once = SETTINGS[setting]
    groups = [data[first : first + each] for first in range(0, len(data), each)]
    messages = [caller.message(group) for group in groups]
    used = server.cpu_s()
    block = await closed_loop(
        caller, messages, images_each=each, concurrency=at_once, seconds=seconds
    )
    images = len(block.latencies_ms) * each
    return BlockFigures(
        images_per_second=block.images_per_second,
        latency_p50_ms=statistics.median(block.latencies_ms),
        server_cpu_ms=server.cpu_s(used)["server"] * 1e3 / images,
    )


def over_own(figures: Figures) -> Figures:
    """Every figure divided by that of our own contract in the same block and setting."""
    return {
        setting: {
            name: [value / base for value, base in zip(values, doors[OWN], strict=True)]
            for name, values in doors.items()
            if name != OWN
        }
        for setting, doors in figures.items()
    }


if __name__ == "__main__":
    main()
