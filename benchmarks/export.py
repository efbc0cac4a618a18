"""An export beside its own parts, beside clip-retrieval, with one worker and two, and its memory.

    python -m benchmarks.export                          # all but clip-retrieval
    python -m benchmarks.export --only peer --peer ENV/bin/clip-retrieval

The parts are the decoders without a model, and the model on pixels in memory, each with the
processes and threads that it has in the export. Blocks of all three alternate in one run. When both
parts use all cores, no export can be as fast as the slower one: the bound is 1 / (1 / decode + 1 /
model), and the ratio to it is measured as well. clip-retrieval 2.45 needs a separate environment
(`setuptools<81`). It gets the same images and a CLIP of the same geometry.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.arguments import at_least
from benchmarks.figures import Summary, machine, summary
from benchmarks.process_usage import timed, watched
from benchmarks.sample_collections import clip_directory, images, table, vit_b32
from bundle.image import ImageLimits
from bundle.store import default_bundle, open_bundle
from serving.core.metrics import Metrics
from serving.engine_plans.open_engine import open_engine
from serving.engines.base import REFERENCE, available_cores
from serving.export.export_request import BundleOnce, ExportRequest
from serving.export.export_worker import ExportWorker
from serving.export.job import OutputConfig
from serving.export.pipeline import IMAGES_PER_MESSAGE
from serving.export.preparation import prepare
from serving.export.runners import RUNNERS
from serving.image_decoding.pool import DecodePool

RESULTS = Path(__file__).parent / "results"
BATCH = 32
VIT_DIVISOR = 8
"""ViT-B/32 gets this many times fewer images: it takes more than ten times as long for each."""


def main() -> None:
    """Measures, prints and writes benchmarks/results/export.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS][:-1])
    parser.add_argument("--repeats", type=at_least(1), default=3)
    parser.add_argument(
        "--images",
        type=at_least(VIT_DIVISOR),
        default=8192,
        help="how many JPEGs of 512 x 384 to export",
    )
    parser.add_argument(
        "--rows", type=at_least(1), nargs="+", default=[10_000, 100_000], help="sizes for memory"
    )
    parser.add_argument("--peer", default="clip-retrieval", help="the command of clip-retrieval")
    parser.add_argument(
        "--work", type=Path, help="folder that keeps images and models; default: a new one"
    )
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
    """Folders that the benchmark writes to."""

    kept: Path
    """Images and models, which are made once."""
    new: Path
    """What a run writes."""


def parts(work: Scratch, arguments: argparse.Namespace) -> dict[str, Any]:
    """Rates of the decoders, the model and the export, for two models: with one core for each part,
    and with all cores for both."""
    source = images(work.kept, arguments.images)
    data = [path.read_bytes() for path in sorted(source.iterdir())]
    results: dict[str, Any] = {"batch": BATCH}
    bundles = {"demo": default_bundle(), "vit_b32": vit_b32(work.kept / "models")}
    splits = {"a core each": 1, "all cores": available_cores()}
    for name, bundle in bundles.items():
        # Enough images that the time to fill and drain the pipeline does not count.
        encoded = data if name == "demo" else data[: len(data) // VIT_DIVISOR]
        folder = source if name == "demo" else images(work.kept, len(encoded))
        for split, cores in splits.items():
            rates: dict[str, list[float]] = {"decode": [], "model": [], "export": []}
            for block in range(arguments.repeats):
                rates["decode"].append(decode_rate(bundle, encoded, cores))
                rates["model"].append(model_rate(bundle, len(encoded), cores))
                output = work.new / f"{name}-{cores}-{block}"
                rates["export"].append(export_rate(request(folder, output, bundle, cores)))
            results[f"{name}, {split}"] = {"images": len(encoded)} | rated(rates)
    return results


def rated(rates: dict[str, list[float]]) -> dict[str, Summary]:
    """Summaries of the rates, and of the ratios of the export to what its parts allow."""
    blocks = list(zip(*rates.values(), strict=True))
    slower = [export / min(decode, model) for decode, model, export in blocks]
    shared = [export * (1 / decode + 1 / model) for decode, model, export in blocks]
    return {
        **{name: summary(values) for name, values in rates.items()},
        "over the slower part": summary(slower),
        "over both in turn": summary(shared),
    }


def decode_rate(bundle: Path, data: list[bytes], workers: int) -> float:
    """Images per second of `workers` decoders."""

    async def work() -> float:
        pool = DecodePool(
            open_bundle(bundle).manifest.preprocessing,
            ImageLimits(),
            workers=workers,
            seconds=30.0,
            metrics=Metrics(),
            slots=IMAGES_PER_MESSAGE,
        )
        await pool.start()
        began = time.perf_counter()
        step = IMAGES_PER_MESSAGE
        messages = [data[first : first + step] for first in range(0, len(data), step)]
        for first in range(0, len(messages), 16):
            await asyncio.gather(*map(pool.decode_many, messages[first : first + 16]))
        seconds = time.perf_counter() - began
        await pool.close()
        return len(data) / seconds

    return asyncio.run(work())


def model_rate(bundle: Path, count: int, cores: int) -> float:
    """Images per second of the engine on `cores` cores, with one run per core as in an export."""
    model = open_bundle(bundle)
    engine = open_engine(model, dataclasses.replace(REFERENCE, threads=1), cores)
    side = model.manifest.preprocessing.size
    pixels = np.random.default_rng(0).standard_normal((BATCH, 3, side, side), dtype=np.float32)
    engine.run("image", pixels)
    with ThreadPoolExecutor(engine.runs) as pool:
        began = time.perf_counter()
        list(pool.map(lambda _: engine.run("image", pixels), range(count // BATCH)))
        return count // BATCH * BATCH / (time.perf_counter() - began)


def request(
    source: Path, output: Path, bundle: Path, cores: int, batches: int = 8
) -> ExportRequest:
    """An export in many small shards, of `batches` batches each."""
    return ExportRequest(
        source=str(source),
        output=str(output),
        bundle=BundleOnce(bundle),
        outputs=OutputConfig(rows=batches * BATCH, batch=BATCH),
        cores=cores,
        decoders=cores,
    )


def export_rate(requested: ExportRequest) -> float:
    """Entries per second of a worker that is ready, until the last receipt."""
    generations = prepare(requested).generations
    job, shards = generations.job, generations.shards

    async def work() -> float:
        async with ExportWorker(requested, job) as worker:
            began = time.perf_counter()
            await worker.run(range(shards), lambda shard: None)
            return job.entries / (time.perf_counter() - began)

    return asyncio.run(work())


def receipt_rate(runner: str, requested: ExportRequest, count: int) -> float:
    """Entries per second of `count` workers, by the times of their receipts. Workers start at
    different times and report several shards at once, so each one's first receipt is left out."""
    generations = prepare(requested).generations
    job, numbers = generations.job, range(generations.shards)
    RUNNERS.load(runner).open(count).run(requested, job, numbers, lambda shard: None)
    return by_receipts(Path(requested.output), requested.outputs.rows, count)


def by_receipts(output: Path, rows: int, count: int = 1) -> float:
    """Entries per second of an export that is finished."""
    times = sorted(path.stat().st_mtime for path in output.glob("receipts/*.json"))
    later = times[count:]
    return len(later) * rows / (later[-1] - times[count - 1])


def workers(work: Scratch, arguments: argparse.Namespace) -> dict[str, Any]:
    """One worker and two, as processes and as actors of Ray. ViT-B/32 is most of the work, so that
    a worker with its decoder keeps little more than one core busy."""
    source = images(work.kept, arguments.images // VIT_DIVISOR)
    bundle = vit_b32(work.kept / "models")
    results: dict[str, Any] = {"images": arguments.images // VIT_DIVISOR, "model": "vit_b32"}
    for name in ("processes", "ray"):
        rates: dict[str, list[float]] = {"1": [], "2": []}
        for block in range(arguments.repeats):
            for count in (1, 2):
                output = work.new / f"{name}-{count}-{block}"
                requested = request(source, output, bundle, 1, batches=1)
                rates[str(count)].append(receipt_rate(name, requested, count))
        results[name] = {
            **{f"{count} workers": summary(values) for count, values in rates.items()},
            "2 over 1": summary([b / a for a, b in zip(*rates.values(), strict=True)]),
        }
    return results


def memory(work: Scratch, arguments: argparse.Namespace) -> dict[str, Any]:
    """Peak memory in MiB of an export and its decoders, by the rows of a table."""
    results: dict[str, Any] = {}
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
        results[str(rows)] = {"seconds": round(seconds, 1), "peak_mib": round(peak[0] / 2**20)}
    return results


def peer(work: Scratch, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the two commands from start to end, and their rates once they run."""
    count = arguments.images // VIT_DIVISOR
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


PARTS = {"parts": parts, "workers": workers, "memory": memory, "peer": peer}


if __name__ == "__main__":
    main()
