"""Build a data set from its recipe: fetch, render, split, write; each step continues where it was.

Renders are cached in chunks named by the digest of what goes in, shards are skipped when their
receipt vouches for the same content, and the index is written last. A changed recipe changes
the digests, so it rebuilds exactly what it touches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from training.data.assemble import assemble
from training.data.dataset import Header, open_output, write_dataset
from training.data.icons import render
from training.data.recipe import Recipe
from training.data.shards import RECEIPTS, Sample, finished_shard, read_tar, write_shard
from training.data.sources import Source, read_sources
from training.data.words import write_words

CHUNK = 400
"""Drawings rendered and cached together."""


def progress_bar() -> Progress:
    """The progress display of every step."""
    return Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )


def build_dataset(
    recipe: Recipe, output: Path, cache: Path, *, workers: int, progress: Progress
) -> dict[str, Any]:
    """Build `recipe` into `output` and return its index."""
    open_output(output)
    source = read_sources(recipe, cache, progress)
    images = render_all(source, recipe, cache / "renders", workers, progress)
    splits = assemble(source, images, recipe)
    missing = write_words(recipe, output, cache)
    header = Header(
        recipe=recipe.name,
        recipe_sha256=recipe.sha256,
        render_px=recipe.render_px,
        dropped=source.dropped,
        notes=[*source.notes, *([missing] if missing else [])],
    )
    return write_dataset(splits, header, output, recipe.samples_per_shard, progress)


def _render_chunk(contents: Sequence[tuple[bytes, bool]], px: int) -> list[bytes | str]:
    """PNG of each drawing, or the reason it failed; runs in a worker process."""
    done: list[bytes | str] = []
    for content, trim in contents:
        try:
            done.append(render(content, px, trim=trim))
        except (ValueError, OSError) as error:
            done.append(f"{error}" or type(error).__name__)
    return done


def render_all(
    source: Source, recipe: Recipe, cache: Path, workers: int, progress: Progress
) -> dict[int, bytes]:
    """PNG bytes by position in `source.drawings`; failures are counted in `source.dropped`."""
    cache.mkdir(parents=True, exist_ok=True)
    chunks = [
        range(start, min(start + CHUNK, len(source.drawings)))
        for start in range(0, len(source.drawings), CHUNK)
    ]
    task = progress.add_task("render", total=len(source.drawings))
    images: dict[int, bytes] = {}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = []
        for chunk in chunks:
            digest = hashlib.sha256(str(recipe.render_px).encode())
            for i in chunk:
                drawing = source.drawings[i]
                digest.update(hashlib.sha256(drawing.content).digest() + bytes([drawing.trim]))
            name = f"{digest.hexdigest()[:32]}.tar"
            receipt = cache / RECEIPTS / f"{name}.json"
            plan = json.loads(receipt.read_bytes())["plan"] if receipt.is_file() else ""
            if plan and finished_shard(cache, name, plan):
                for sample in read_tar(cache / name):
                    images[chunk[int(sample.key)]] = sample.png
                progress.advance(task, len(chunk))
                continue
            contents = [(source.drawings[i].content, source.drawings[i].trim) for i in chunk]
            waiting.append((chunk, name, pool.submit(_render_chunk, contents, recipe.render_px)))
        for chunk, name, future in waiting:
            made = []
            for position, result in enumerate(future.result()):
                if isinstance(result, bytes):
                    images[chunk[position]] = result
                    made.append(Sample(key=str(position), png=result, meta={}))
            write_shard(cache, name, made)
            progress.advance(task, len(chunk))
    for i, drawing in enumerate(source.drawings):
        if i not in images:
            source.dropped[f"{drawing.set}: render failed"] += 1
    return images
