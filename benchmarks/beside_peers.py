"""Our server beside infinity-emb, and beside plain loops over open_clip and transformers.

All have the same weights, images and cores. Servers run in processes of their own. This process
calls them, and shares their cores. Each block measures all of them in turn, so that other load on
the machine affects all; a figure is the median over blocks, with its range.

    python -m benchmarks.beside_peers --infinity ENV/bin/infinity_emb            # seven minutes
    python -m benchmarks.beside_peers --model vit_l14 --infinity ENV/bin/infinity_emb

benchmarks/peers/infinity_peer.py says how to make its environment. Without --infinity it is left
out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.arguments import above, at_least
from benchmarks.clip_models import GEOMETRIES, WORK, ClipModel, prepare
from benchmarks.closed_loop import closed_loop
from benchmarks.figures import RESULTS, Summary, add_result, described, summaries
from benchmarks.peers.base import EmbeddingCaller, PeerServer
from benchmarks.peers.infinity_peer import infinity
from benchmarks.peers.sparseclip_peer import sparseclip
from benchmarks.running_server import LONG_QUEUE, environment
from benchmarks.sample_collections import DISTINCT, IMAGES, image

DENSE, SPARSE, INFINITY = "sparseclip, dense", "sparseclip, sparse", "infinity"
OURS = {
    DENSE: ("dense", ()),
    f"{DENSE}, fp32": ("dense", ("--engine", "onnxruntime", "--precision", "fp32")),
    SPARSE: ("sparse", ()),
}
"""The kind of the bundle, and flags. Without flags the server chooses its engine and precision."""
LIBRARIES = ("open_clip", "transformers")
SETTINGS = {
    "1 a call, 1 at once": (1, 1),
    "1 a call, 8 at once": (1, 8),
    "1 a call, 32 at once": (1, 32),
    "32 a call, 1 at once": (32, 1),
}
"""Images of a call, and calls in flight."""
BATCHES = (1, 8, 32)
"""Of the loops."""
WARM_S = 2.0


def main() -> None:
    """Measures, prints, and adds the result to benchmarks/results/beside_peers.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", choices=GEOMETRIES, default="vit_b32")
    parser.add_argument("--work", type=Path, default=WORK, help="folder that keeps the models")
    parser.add_argument("--images", choices=IMAGES, default="jpeg512")
    parser.add_argument("--infinity", help="the command infinity_emb of its environment")
    parser.add_argument("--serve", default="", help="flags for our server, as one argument")
    parser.add_argument("--ours", choices=OURS, nargs="+", default=list(OURS))
    parser.add_argument("--settings", choices=SETTINGS, nargs="*", default=list(SETTINGS))
    parser.add_argument("--libraries", choices=LIBRARIES, nargs="*", default=list(LIBRARIES))
    parser.add_argument("--batches", type=at_least(1, up_to=DISTINCT), nargs="*", default=BATCHES)
    parser.add_argument("--blocks", type=at_least(1), default=3, help="alternations of all arms")
    parser.add_argument("--seconds", type=above(0), default=3.0, help="length of a block")
    parser.add_argument("--out", type=Path, default=RESULTS / "beside_peers.json")
    given = parser.parse_args()
    began = time.perf_counter()
    model = prepare(given.model, given.work)
    data = [image(*IMAGES[given.images], seed) for seed in range(DISTINCT)]
    with contextlib.ExitStack() as stack:
        servers = {
            name: stack.enter_context(
                sparseclip(getattr(model, kind), *LONG_QUEUE, *flags, *shlex.split(given.serve))
            )
            for name, (kind, flags) in OURS.items()
            if name in given.ours
        }
        if given.infinity:
            servers[INFINITY] = stack.enter_context(infinity(model, given.infinity))
        loops = {
            name: stack.enter_context(library_loop(name, model, data, given.work))
            for name in given.libraries
        }
        result = asyncio.run(measure(servers, loops, data, given))
    result["random_weights"] = True
    result["arguments"] = {key: value for key, value in vars(given).items() if plain(key)}
    result["seconds"] = round(time.perf_counter() - began)
    result["machine"] = described()
    print(json.dumps({k: v for k, v in result.items() if k != "raw"}, indent=1))
    add_result(given.out, f"{given.model}, {given.images}", result)


def plain(key: str) -> bool:
    """Whether an option says what was measured; paths belong to this machine."""
    return key not in ("work", "infinity", "out")


class Loop:
    """A loop over a library, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], vectors: Path) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._orders, self._answers = process.stdin, process.stdout
        self.description = self._answers.readline().strip()
        if not self.description:
            raise SystemExit("the loop over a library did not start")
        self.vectors: NDArray[np.float32] = np.load(vectors)

    def rate(self, batch: int, seconds: float) -> float:
        """Images per second, from encoded bytes."""
        order = {"batch": batch, "seconds": seconds, "decode": True}
        self._orders.write(json.dumps(order) + "\n")
        self._orders.flush()
        return float(self._answers.readline())


@contextlib.contextmanager
def library_loop(name: str, model: ClipModel, data: list[bytes], work: Path) -> Iterator[Loop]:
    """Starts a loop, and ends it."""
    folder = work / "loops"
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:02d}.jpg" for number in range(len(data))]
    for file, content in zip(files, data, strict=True):
        file.write_bytes(content)
    vectors = folder / f"{name}.npy"
    command = [sys.executable, "-m", "benchmarks.peers.library_loop", name, str(model.folder)]
    process = subprocess.Popen(
        [*command, *map(str, files), "--vectors", str(vectors)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
    )
    try:
        yield Loop(process, vectors)
    finally:
        process.terminate()
        process.wait(timeout=60)


async def measure(
    servers: dict[str, PeerServer],
    loops: dict[str, Loop],
    data: list[bytes],
    given: argparse.Namespace,
) -> dict[str, Any]:
    """Alternates all arms. Rates are in images per second, latencies in milliseconds."""
    rates: dict[str, dict[str, list[float]]] = {}
    latencies: dict[str, dict[str, list[float]]] = {}
    async with contextlib.AsyncExitStack() as stack:
        callers = {
            name: await stack.enter_async_context(server.calling())
            for name, server in servers.items()
        }
        vectors = {name: loop.vectors for name, loop in loops.items()}
        for name, caller in callers.items():
            reply = await caller.send(caller.message(data))
            if name != SPARSE:
                vectors[name] = caller.vectors(reply)
        await arms(callers, loops, data, given, WARM_S)  # does not count
        for block in range(given.blocks):
            for (setting, name), (rate, latency) in (
                await arms(callers, loops, data, given, given.seconds)
            ).items():
                rates.setdefault(setting, {}).setdefault(name, []).append(rate)
                if latency:
                    latencies.setdefault(setting, {}).setdefault(name, []).append(latency)
            print(f"block {block + 1} of {given.blocks}", file=sys.stderr, flush=True)
    return {
        "images_per_second": summaries(rates),
        "latency_p50_ms": summaries(latencies),
        f"over_{INFINITY}": over(rates, INFINITY),
        "cosine_with_ours": {
            name: parity(vectors[DENSE], rows)
            for name, rows in vectors.items()
            if name != DENSE and DENSE in vectors
        },
        "memory_mib": {name: server.memory_mib() for name, server in servers.items()},
        "versions": {
            **{name: server.description for name, server in servers.items()},
            **{name: loop.description for name, loop in loops.items()},
        },
        "raw": {"images_per_second": rates, "latency_p50_ms": latencies},
    }


async def arms(
    callers: dict[str, EmbeddingCaller],
    loops: dict[str, Loop],
    data: list[bytes],
    given: argparse.Namespace,
    seconds: float,
) -> dict[tuple[str, str], tuple[float, float]]:
    """Every arm once: its rate, and the median latency of a server's calls."""
    figures = {}
    for setting in given.settings:
        each, concurrency = SETTINGS[setting]
        for name, caller in callers.items():
            groups = [data[first : first + each] for first in range(0, len(data), each)]
            block = await closed_loop(
                caller,
                [caller.message(group) for group in groups],
                images_each=each,
                concurrency=concurrency,
                seconds=seconds,
            )
            latency = statistics.median(block.latencies_ms)
            figures[setting, name] = block.images_per_second, latency
    for batch in given.batches:
        for name, loop in loops.items():
            figures[f"loop, batch {batch}", name] = loop.rate(batch, seconds), 0.0
    return figures


def over(rates: dict[str, dict[str, list[float]]], peer: str) -> dict[str, dict[str, Summary]]:
    """Every rate divided by the peer's of the same block and setting."""
    ratios = {
        setting: {
            name: [rate / base for rate, base in zip(blocks, arms[peer], strict=True)]
            for name, blocks in arms.items()
            if name != peer
        }
        for setting, arms in rates.items()
        if peer in arms
    }
    return summaries(ratios)


def parity(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> dict[str, float]:
    """Cosines of vectors (B, D) with those of the same images, (B, D)."""
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    cosines = (ours * theirs).sum(axis=1) / norms
    return {"min": round(float(cosines.min()), 6), "mean": round(float(cosines.mean()), 6)}


if __name__ == "__main__":
    main()
