"""What an image costs the server's main process beside the engine: CPU by group of threads.

The server runs in a process of its own and says what its threads have used. Another checkout of
this repository can be measured in the same run, block by block.

    python -m benchmarks.front_end                            # this checkout
    python -m benchmarks.front_end --before ../sparseclip-old
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc

from benchmarks.arguments import above, at_least
from benchmarks.figures import RESULTS, machine, summary
from benchmarks.sample_collections import DISTINCT, IMAGES, image
from benchmarks.serving import calls, check, stream
from bundle.store import default_bundle, open_bundle
from sparseclip.v1 import embedding_pb2, embedding_pb2_grpc

ROOT = Path(__file__).parent.parent
ENGINE = ("engine", "tokenizer")
"""Threads that are not the front end's."""


class CountedServer:
    """A server of one checkout, and what it has used."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._line().strip()

    def used_s(self) -> dict[str, float]:
        """CPU seconds by group of threads; see counted_server.used_s."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        seconds: dict[str, float] = json.loads(self._line())
        return seconds

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def main() -> None:
    """Measures, prints and writes benchmarks/results/front_end.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, help="default: the demo bundle")
    parser.add_argument("--before", type=Path, help="another checkout, to compare with")
    parser.add_argument("--images", choices=IMAGES, default="jpeg512")
    parser.add_argument("--blocks", type=at_least(1), default=5, help="alternations of all arms")
    parser.add_argument("--seconds", type=above(0, up_to=100), default=3.0, help="of a block")
    parser.add_argument("--out", type=Path, default=RESULTS / "front_end.json")
    arguments = parser.parse_args()
    bundle = (arguments.bundle or default_bundle()).absolute()
    trees = {"now": ROOT} | ({"before": arguments.before} if arguments.before else {})
    with contextlib.ExitStack() as stack:
        servers = {
            name: stack.enter_context(counted_server(tree, bundle)) for name, tree in trees.items()
        }
        data = [image(*IMAGES[arguments.images], seed) for seed in range(DISTINCT)]
        blocks = asyncio.run(measure(servers, data, arguments.blocks, arguments.seconds))
    manifest = open_bundle(bundle).manifest
    result = {
        "model": f"{manifest.name} {manifest.version}",
        "images": arguments.images,
        "machine": machine(),
        "cpu_ms_per_image": {
            name: {arm: by_group(rows) for arm, rows in arms.items()}
            for name, arms in blocks.items()
        },
        "images_per_second": {
            name: {arm: summary([row["rate"] for row in rows]) for arm, rows in arms.items()}
            for name, arms in blocks.items()
        },
        "raw": blocks,
    }
    print(json.dumps({key: value for key, value in result.items() if key != "raw"}, indent=1))
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


def by_group(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Milliseconds of CPU per image: of the front end, and of each group of threads."""
    groups = {name for row in rows for name in row} - {"rate"}
    own = [
        sum(ms for name, ms in row.items() if name not in (*ENGINE, "decoders", "rate"))
        for row in rows
    ]
    return {
        "front end": summary(own),
        **{name: summary([row.get(name, 0.0) for row in rows]) for name in sorted(groups)},
    }


async def measure(
    servers: dict[str, CountedServer], data: list[bytes], blocks: int, seconds: float
) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Blocks of each server and arm: milliseconds of CPU per image by group of threads, and the
    rate in images per second."""
    rows: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in servers}
    for block in range(-1, blocks):
        for name, server in servers.items():
            async with grpc.aio.insecure_channel(server.address) as channel:
                stub: Any = embedding_pb2_grpc.EmbeddingServiceStub(channel)  # type: ignore[no-untyped-call]
                for arm, answers in arms(stub, data).items():
                    row = await measured(server, answers(), seconds if block >= 0 else 1.0)
                    if block >= 0:  # the first one warms up
                        rows[name].setdefault(arm, []).append(row)
    return rows


def arms(stub: Any, data: list[bytes]) -> dict[str, Callable[[], AsyncIterator[int]]]:
    """What callers do."""
    return {
        "1 a call, one at a time": lambda: one_by_one(stub, data),
        "1 a call, 32 calls": lambda: calls(stub, data, 1, 32),
        "16 a call, 4 calls": lambda: calls(stub, data, 16, 4),
        "stream": lambda: stream(stub, data),
    }


async def one_by_one(stub: Any, data: list[bytes]) -> AsyncIterator[int]:
    """Endless calls with one image, one after another."""
    for number in itertools.count():
        inputs = [embedding_pb2.EmbedInput(image=data[number % len(data)])]
        check((await stub.Embed(embedding_pb2.EmbedRequest(inputs=inputs), timeout=60)).results)
        yield 1


async def measured(
    server: CountedServer, answers: AsyncIterator[int], seconds: float
) -> dict[str, float]:
    """The cost of an image, from the first answer on."""
    images, started = 0, 0.0
    before: dict[str, float] = {}
    async with contextlib.aclosing(answers) as counts:  # type: ignore[type-var]
        async for count in counts:
            if not before:
                started, before = time.perf_counter(), server.used_s()
                continue
            images += count
            if time.perf_counter() - started > seconds:
                break
        elapsed, after = time.perf_counter() - started, server.used_s()
    row = {name: 1e3 * (after[name] - before.get(name, 0.0)) / images for name in after}
    return {"rate": images / elapsed} | {name: ms for name, ms in row.items() if ms > 0.001}


@contextlib.contextmanager
def counted_server(tree: Path, bundle: Path) -> Iterator[CountedServer]:
    """A server of the checkout `tree`."""
    program = ROOT / "benchmarks" / "counted_server.py"
    path = os.pathsep.join(str(tree.absolute() / folder) for folder in (".", "protos"))
    process = subprocess.Popen(
        [sys.executable, "-P", str(program), str(bundle), "16"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        cwd=tree,
    )
    try:
        yield CountedServer(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=60)


if __name__ == "__main__":
    main()
