"""An export beside its own parts, beside clip-retrieval, with one worker and two, and its memory.

    python -m benchmarks.export                          # all but clip-retrieval
    python -m benchmarks.export --only peer --peer ENV/bin/clip-retrieval

The parts are the decoders without a model and the model on pixels in memory, each with the
processes and threads that it has in the export. Blocks of all three alternate in one run. Where
both parts use all cores, no export can reach the slower one: the bound is 1 / (1 / decode + 1 /
model), and the ratio to it is told as well. clip-retrieval 2.45 needs an environment of its own
(`setuptools<81`) and gets the same images and a CLIP of the same geometry.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from benchmarks.collections import clip_directory, images, table, vit_b32
from benchmarks.serving import Summary, machine, summary
from bundle.image import ImageLimits
from bundle.store import default_bundle, open_bundle
from serving.core.metrics import Metrics
from serving.decoding.pool import DecodePool
from serving.engines.base import EngineConfig, available_cores, open_engine
from serving.export.job import OutputConfig
from serving.export.pipeline import SLOTS
from serving.export.plan import Plan
from serving.export.request import Task
from serving.export.runners import RUNNERS
from serving.export.worker import Exporter

RESULTS = Path(__file__).parent / "results"
BATCH = 32
SLOWER = 8
"""Times fewer images for ViT-B/32, which takes more than ten times as long for each."""


def main() -> None:
    """Measures, prints and writes benchmarks/results/export.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS][:-1])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=8192, help="JPEGs of 512 x 384")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000], help="of memory")
    parser.add_argument("--peer", default="clip-retrieval", help="its command")
    parser.add_argument("--work", type=Path, help="keeps images and models; default: a new one")
    arguments = parser.parse_args()
    file = RESULTS / "export.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    with tempfile.TemporaryDirectory(dir=arguments.work) as new:
        for name in arguments.only:
            work = Scratch(kept=arguments.work or Path(new), new=Path(new))
            results[name] = PARTS[name](work, arguments) | {"machine": machine()}
            print(json.dumps({name: results[name]}, indent=1))
            file.write_text(json.dumps(results, indent=1) + "\n")


class Scratch(NamedTuple):
    """Folders: of what is made once, and of what a run writes."""

    kept: Path
    new: Path


def parts(work: Scratch, arguments: argparse.Namespace) -> dict[str, Any]:
    """Rates of decoders, model and export, of two models; on a core each, and on all cores."""
    source = images(work.kept, arguments.images)
    data = [path.read_bytes() for path in sorted(source.iterdir())]
    found: dict[str, Any] = {"batch": BATCH}
    bundles = {"demo": default_bundle(), "vit_b32": vit_b32(work.kept / "models")}
    splits = {"a core each": 1, "all cores": available_cores()}
    for name, bundle in bundles.items():
        # Long enough that filling and draining the pipeline does not count.
        taken = data if name == "demo" else data[: len(data) // SLOWER]
        given = source if name == "demo" else images(work.kept, len(taken))
        for split, cores in splits.items():
            rates: dict[str, list[float]] = {"decode": [], "model": [], "export": []}
            for block in range(arguments.repeats):
                rates["decode"].append(decode_rate(bundle, taken, cores))
                rates["model"].append(model_rate(bundle, len(taken), cores))
                output = work.new / f"{name}-{cores}-{block}"
                rates["export"].append(export_rate(task(given, output, bundle, cores)))
            found[f"{name}, {split}"] = {"images": len(taken)} | rated(rates)
    return found


def rated(rates: dict[str, list[float]]) -> dict[str, Summary]:
    """Summaries of the rates, and of the export's ratio to what its parts allow."""
    blocks = list(zip(*rates.values(), strict=True))
    slower = [export / min(decode, model) for decode, model, export in blocks]
    shared = [export * (1 / decode + 1 / model) for decode, model, export in blocks]
    return {
        **{name: summary(values) for name, values in rates.items()},
        "over the slower part": summary(slower),
        "over both in turn": summary(shared),
    }


def decode_rate(bundle: Path, data: list[bytes], workers: int) -> float:
    """Images a second of so many decoders."""

    async def work() -> float:
        pool = DecodePool(
            open_bundle(bundle).manifest.preprocessing,
            ImageLimits(),
            workers=workers,
            seconds=30.0,
            metrics=Metrics(),
            slots=SLOTS,
        )
        await pool.start()
        began = time.perf_counter()
        parts = [data[first : first + SLOTS] for first in range(0, len(data), SLOTS)]
        for first in range(0, len(parts), 16):
            await asyncio.gather(*map(pool.decode_many, parts[first : first + 16]))
        seconds = time.perf_counter() - began
        await pool.close()
        return len(data) / seconds

    return asyncio.run(work())


def model_rate(bundle: Path, count: int, cores: int) -> float:
    """Images a second of the engine on so many cores, a run a core as in an export."""
    opened = open_bundle(bundle)
    engine = open_engine(opened, EngineConfig(threads=1), cores)
    side = opened.manifest.preprocessing.size
    pixels = np.random.default_rng(0).standard_normal((BATCH, 3, side, side), dtype=np.float32)
    engine.run("image", pixels)
    with ThreadPoolExecutor(engine.runs) as pool:
        began = time.perf_counter()
        list(pool.map(lambda _: engine.run("image", pixels), range(count // BATCH)))
        return count // BATCH * BATCH / (time.perf_counter() - began)


def task(source: Path, output: Path, bundle: Path, cores: int, batches: int = 8) -> Task:
    """An export in shards of so few batches that there are many of them."""
    return Task(
        source=str(source),
        output=str(output),
        bundle=bundle,
        outputs=OutputConfig(rows=batches * BATCH, batch=BATCH),
        cores=cores,
        decoders=cores,
    )


def export_rate(asked: Task) -> float:
    """Entries a second of a worker that is ready, until the last receipt."""
    job = asked.settle()

    async def work() -> float:
        async with Exporter(asked, job) as exporter:
            began = time.perf_counter()
            await exporter.run(range(Plan.of(asked.open_output(), job).shards), lambda step: None)
            return job.entries / (time.perf_counter() - began)

    return asyncio.run(work())


def receipt_rate(runner: str, asked: Task, count: int) -> float:
    """Entries a second by the times of receipts, without each worker's first: workers start at
    their own time, and tell of several shards at once."""
    job = asked.settle()
    numbers = range(Plan.of(asked.open_output(), job).shards)
    RUNNERS.load(runner).open(count).run(asked, job, numbers, lambda step: None)
    return by_receipts(Path(asked.output), asked.outputs.rows, count)


def by_receipts(output: Path, rows: int, count: int = 1) -> float:
    """The same of an export that is there."""
    times = sorted(path.stat().st_mtime for path in output.glob("receipts/*.json"))
    later = times[count:]
    return len(later) * rows / (later[-1] - times[count - 1])


def workers(work: Scratch, arguments: argparse.Namespace) -> dict[str, Any]:
    """One worker and two, as processes and as actors of Ray, of the model that is most of the
    work: a worker's decoder beside its model keeps little more than a core busy."""
    source = images(work.kept, arguments.images // SLOWER)
    bundle = vit_b32(work.kept / "models")
    found: dict[str, Any] = {"images": arguments.images // SLOWER, "model": "vit_b32"}
    for name in ("processes", "ray"):
        rates: dict[str, list[float]] = {"1": [], "2": []}
        for block in range(arguments.repeats):
            for count in (1, 2):
                output = work.new / f"{name}-{count}-{block}"
                asked = task(source, output, bundle, 1, batches=1)
                rates[str(count)].append(receipt_rate(name, asked, count))
        found[name] = {
            **{f"{count} workers": summary(values) for count, values in rates.items()},
            "2 over 1": summary([b / a for a, b in zip(*rates.values(), strict=True)]),
        }
    return found


def memory(work: Scratch, arguments: argparse.Namespace) -> dict[str, Any]:
    """Most MiB of an export and its decoders, by the rows of a table."""
    found: dict[str, Any] = {}
    for rows in arguments.rows:
        source = table(work.kept / f"{rows}.parquet", rows)
        command = [sys.executable, "-m", "serving.cli.main", "export", source]
        command += [work.new / f"{rows}", "--column", "image"]
        with subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL) as process:
            with watched(process.pid) as peak:
                began = time.perf_counter()
                process.wait()
            if process.returncode:
                raise SystemExit(f"the export of {rows} rows failed")
            seconds = time.perf_counter() - began
        found[str(rows)] = {"seconds": round(seconds, 1), "peak_mib": round(peak[0] / 2**20)}
    return found


@contextlib.contextmanager
def watched(pid: int) -> Iterator[list[float]]:
    """The most memory that a process and its children have had, as one number in a list."""
    peak, ended = [0.0], threading.Event()

    def watch() -> None:
        parent = psutil.Process(pid)
        while not ended.wait(0.1):
            with contextlib.suppress(psutil.Error):
                family = [parent, *parent.children(recursive=True)]
                peak[0] = max(peak[0], sum(one.memory_info().rss for one in family))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def peer(work: Scratch, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of our command and of clip-retrieval's, from start to end, and its own rate."""
    count = arguments.images // SLOWER
    source = images(work.kept, count)
    bundle, directory = vit_b32(work.kept / "models"), clip_directory(work.kept / "clip")
    seconds: dict[str, list[float]] = {"ours": [], "clip_retrieval": []}
    rates: dict[str, list[float]] = {"ours": [], "clip_retrieval": []}
    for block in range(arguments.repeats):
        output = work.new / f"ours-{block}"
        command = [sys.executable, "-m", "serving.cli.main", "export", source, output]
        seconds["ours"].append(timed([*command, "--bundle", bundle, "--rows", 2 * BATCH]))
        rates["ours"].append(by_receipts(output, 2 * BATCH))
        output = work.new / f"theirs-{block}"
        command = [arguments.peer, "inference", "--input_dataset", source]
        command += ["--output_folder", output, "--clip_model", f"hf_clip:{directory}"]
        command += ["--batch_size", 16, "--num_prepro_workers", 2, "--enable_text", False]
        command += ["--use_jit", False]
        seconds["clip_retrieval"].append(timed(command))
        [stats] = [json.loads(p.read_text()) for p in output.glob("stats/*.json")]
        rates["clip_retrieval"].append(
            stats["sample_count"] / (stats["end_time"] - stats["start_time"])
        )
    pairs = zip(seconds["clip_retrieval"], seconds["ours"], strict=True)
    running = zip(rates["ours"], rates["clip_retrieval"], strict=True)
    return {
        "images": count,
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "rates once running": {name: summary(values) for name, values in rates.items()},
        "ours over theirs, whole commands": summary([theirs / ours for theirs, ours in pairs]),
        "ours over theirs, once running": summary([ours / theirs for ours, theirs in running]),
    }


def timed(command: list[Any]) -> float:
    """Seconds of a command that must succeed."""
    began = time.perf_counter()
    subprocess.run(
        list(map(str, command)), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - began


PARTS = {"parts": parts, "workers": workers, "memory": memory, "peer": peer}


if __name__ == "__main__":
    main()
