"""Our server called by ghz, a load generator in Go, beside the caller in Python.

    python -m benchmarks.outside_python --ghz ghz           # about two minutes
    python -m benchmarks.outside_python --show calls.json   # the commands, to run by hand

ghz (https://ghz.sh) is one program to download or build. It learns the messages from the .proto
files of the client. Each call has one image. Both callers share the server's cores, and take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from google.rpc import status_pb2

import sparseclip
from benchmarks.arguments import above, at_least
from benchmarks.closed_loop import closed_loop
from benchmarks.figures import RESULTS, described, summaries
from benchmarks.peers.sparseclip_peer import SparseclipCaller
from benchmarks.running_server import LONG_QUEUE, serving
from benchmarks.sample_collections import DISTINCT, IMAGES, image
from bundle.store import default_bundle

CALL = "sparseclip.v1.EmbeddingService.Embed"
CONCURRENCY = (1, 8, 32)


def main() -> None:
    """Measures, prints and writes benchmarks/results/outside_python.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, help="default: the demo bundle")
    parser.add_argument("--images", choices=IMAGES, default="jpeg512")
    parser.add_argument("--ghz", default="ghz", help="the program")
    parser.add_argument("--show", type=Path, help="only write the calls to this file")
    parser.add_argument("--blocks", type=at_least(1), default=3, help="alternations")
    parser.add_argument("--seconds", type=above(0), default=5.0, help="length of a block")
    parser.add_argument("--out", type=Path, default=RESULTS / "outside_python.json")
    given = parser.parse_args()
    data = [image(*IMAGES[given.images], seed) for seed in range(DISTINCT)]
    if given.show:
        given.show.write_text(json.dumps(calls_data(data)))
        print(shlex.join(["sparseclip", "serve", *LONG_QUEUE]))
        print(shlex.join(ghz_command(given.ghz, given.show, "localhost:50051", 8, given.seconds)))
        return
    began = time.perf_counter()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(calls_data(data), file)
        file.flush()
        with serving(given.bundle or default_bundle(), *LONG_QUEUE) as server:
            result = asyncio.run(measure(server.address, Path(file.name), data, given))
    version = subprocess.run([given.ghz, "--version"], capture_output=True, text=True)
    result |= {
        "ghz": (version.stdout + version.stderr).strip(),
        "images": given.images,
        "blocks": given.blocks,
        "seconds": round(time.perf_counter() - began),
        "machine": described(),
    }
    print(json.dumps(result, indent=1))
    given.out.write_text(json.dumps(result, indent=1) + "\n")


def calls_data(images: Sequence[bytes]) -> list[dict[str, Any]]:
    """Calls of one image each as ghz takes them: EmbedRequest as JSON, one after the other."""
    return [{"inputs": [{"image": base64.b64encode(one).decode()}]} for one in images]


def ghz_command(
    program: str, file: Path, address: str, concurrency: int, seconds: float
) -> list[str]:
    """The command that keeps `concurrency` calls in flight, and prints its report as JSON."""
    length = ["--duration", f"{seconds}s", "--duration-stop", "wait", "--timeout", "60s"]
    load = ["--concurrency", str(concurrency), *length]
    roots = [Path(sparseclip.__file__).parents[1], Path(status_pb2.__file__).parents[2]]
    proto = str(roots[0] / "sparseclip" / "v1" / "embedding.proto")
    schema = ["--proto", proto, "--import-paths", ",".join(map(str, roots)), "--call", CALL]
    message = ["--data-file", str(file), "--disable-template-data"]
    return [program, "--insecure", *schema, *message, *load, "--format", "json", address]


async def measure(
    address: str, file: Path, data: Sequence[bytes], given: argparse.Namespace
) -> dict[str, Any]:
    """Alternates the callers. Rates are in images per second, latencies in milliseconds."""
    rates: dict[str, dict[str, list[float]]] = {}
    latencies: dict[str, dict[str, list[float]]] = {}
    async with grpc.aio.insecure_channel(address) as channel:
        caller = SparseclipCaller(channel)
        messages = [caller.message([entry]) for entry in data]
        for block in range(-1, given.blocks):  # the first one does not count
            for concurrency in CONCURRENCY:
                setting = f"{concurrency} at once"
                python = await closed_loop(
                    caller,
                    messages,
                    images_each=1,
                    concurrency=concurrency,
                    seconds=given.seconds,
                )
                found = {
                    "python": (python.images_per_second, statistics.median(python.latencies_ms)),
                    "ghz": ghz_figures(
                        ghz_command(given.ghz, file, address, concurrency, given.seconds)
                    ),
                }
                for name, (rate, latency) in found.items() if block >= 0 else ():
                    rates.setdefault(setting, {}).setdefault(name, []).append(rate)
                    latencies.setdefault(setting, {}).setdefault(name, []).append(latency)
            print(f"block {block + 1} of {given.blocks}", file=sys.stderr, flush=True)
    return {
        "images_per_second": summaries(rates),
        "latency_p50_ms": summaries(latencies),
        "raw": {"images_per_second": rates, "latency_p50_ms": latencies},
    }


def ghz_figures(command: Sequence[str]) -> tuple[float, float]:
    """Calls per second, and the median latency in milliseconds, of a run of ghz."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"ghz: {done.stderr.strip()}")
    return report_figures(json.loads(done.stdout))


def report_figures(report: dict[str, Any]) -> tuple[float, float]:
    """The same of its report. Ends the program when a call failed."""
    failed = {code: n for code, n in report["statusCodeDistribution"].items() if code != "OK"}
    if failed:
        raise SystemExit(f"ghz: calls failed: {failed}")
    [median] = [
        entry["latency"] for entry in report["latencyDistribution"] if entry["percentage"] == 50
    ]
    return report["rps"], median / 1e6


if __name__ == "__main__":
    main()
