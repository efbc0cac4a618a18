"""A data set from its recipe: fetch, render, split, write; a stopped build resumes at any step.

Renders are cached in chunks named by the digest of their drawings, shards are skipped when their
receipt vouches for the same content, and the index is written last. A changed recipe changes the
digests of what it affects, and only that is built anew.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bundle.progress import show_progress
from training.data.assemble import assemble
from training.data.data_recipe import DataError, DataRecipe
from training.data.dataset import DatasetHeader, open_output, write_dataset
from training.data.fetch import check_clients
from training.data.icons import render
from training.data.shards import RECEIPTS, Sample, finished_shard, read_tar, write_shard
from training.data.sources import PackageContents, read_sources
from training.data.words import write_words

DRAWINGS_PER_CHUNK = 400
"""Drawings rendered and cached together."""


def check_tools(recipe: DataRecipe, cache: Path) -> None:
    """Raises DataError for a program or a library that the build would miss after minutes."""
    if importlib.util.find_spec("resvg_py") is None:
        raise DataError("resvg_py, which draws, is not installed; pip install 'sparseclip[train]'")
    check_clients(recipe.used_packages.values(), cache)


def build_dataset(recipe: DataRecipe, output: Path, cache: Path, *, workers: int) -> dict[str, Any]:
    """Builds `recipe` into `output` and returns the index. Raises DataError."""
    check_tools(recipe, cache)
    open_output(output)
    contents = read_sources(recipe, cache)
    images = render_all(contents, recipe, cache / "renders", workers)
    with show_progress("splitting", None):
        splits = assemble(contents, images, recipe)
        missing = write_words(recipe, output, cache)
    header = DatasetHeader(
        recipe=recipe.name,
        recipe_sha256=recipe.sha256,
        render_px=recipe.render_px,
        dropped=contents.dropped,
        notes=[*contents.notes, *([missing] if missing else [])],
    )
    return write_dataset(splits, header, output, recipe.samples_per_shard)


def _render_chunk(sources: Sequence[tuple[bytes, bool]], px: int) -> list[bytes | str]:
    """PNG of each drawing, or the reason it failed; runs in a worker process."""
    results: list[bytes | str] = []
    for content, trim in sources:
        try:
            results.append(render(content, px, trim=trim))
        except (ValueError, OSError) as error:
            results.append(f"{error}" or type(error).__name__)
    return results


def render_all(
    contents: PackageContents, recipe: DataRecipe, cache: Path, workers: int
) -> dict[int, bytes]:
    """PNG bytes by index into `contents.drawings`; failures are counted in `contents.dropped`."""
    cache.mkdir(parents=True, exist_ok=True)
    chunks = [
        range(start, min(start + DRAWINGS_PER_CHUNK, len(contents.drawings)))
        for start in range(0, len(contents.drawings), DRAWINGS_PER_CHUNK)
    ]
    images: dict[int, bytes] = {}
    with (
        show_progress("rendering", len(contents.drawings), "drawings", leave=True) as advance,
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
    ):
        pending = []
        for chunk in chunks:
            digest = hashlib.sha256(str(recipe.render_px).encode())
            for i in chunk:
                drawing = contents.drawings[i]
                digest.update(hashlib.sha256(drawing.content).digest() + bytes([drawing.trim]))
            name = f"{digest.hexdigest()[:32]}.tar"
            receipt = cache / RECEIPTS / f"{name}.json"
            plan = json.loads(receipt.read_bytes())["plan"] if receipt.is_file() else ""
            if plan and finished_shard(cache, name, plan):
                for sample in read_tar(cache / name):
                    images[chunk[int(sample.key)]] = sample.png
                advance(len(chunk))
                continue
            drawings = [contents.drawings[i] for i in chunk]
            sources = [(drawing.content, drawing.trim) for drawing in drawings]
            pending.append((chunk, name, pool.submit(_render_chunk, sources, recipe.render_px)))
        for chunk, name, future in pending:
            samples = []
            for position, result in enumerate(future.result()):
                if isinstance(result, bytes):
                    images[chunk[position]] = result
                    samples.append(Sample(key=str(position), png=result, meta={}))
            write_shard(cache, name, samples)
            advance(len(chunk))
    for i, drawing in enumerate(contents.drawings):
        if i not in images:
            contents.dropped[f"{drawing.set}: render failed"] += 1
    return images
