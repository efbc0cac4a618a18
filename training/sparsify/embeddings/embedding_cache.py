"""The embeddings of a data set and of texts by one teacher: computed once, kept, and resumed.

N images, D width, B batch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.image import ImageError
from bundle.progress import show_progress
from bundle.text import TextError, clean_text
from training.data.data_recipe import DataError
from training.data.fetch import default_cache
from training.data.shards import read_index, read_split
from training.loading.pair_data import HELD_OUT, PairData
from training.loading.sources.base import BadPair, Damage, Pair
from training.loading.tally import PairTally, ReadReport, too_many_bad
from training.sparsify.embeddings.dense_encoder import DenseEncoder, Vectors
from training.sparsify.embeddings.embedding_file import EmbeddingFile, locked

log = logging.getLogger(__name__)

BATCH = 32
"""Images that the tower reads at a time."""

PART = 512
"""Rows between two writes: what a killed run computes again."""


@dataclass(frozen=True, kw_only=True)
class EmbeddedSplit:
    """The good pairs of a split."""

    name: str
    vectors: NDArray[np.float16]
    """(N, D), unit rows, mapped from a file."""
    metas: Sequence[dict[str, Any]]
    """(N,): `key`, `caption`, `captions` and what else the data say of an image."""


@dataclass(frozen=True)
class ImageRow:
    """An encoded image, and what the data say of it."""

    encoded: bytes
    meta: dict[str, Any]


class EmbeddingCache:
    """The embeddings by one teacher, in a folder of their own."""

    def __init__(self, encoder: DenseEncoder, root: Path | None = None) -> None:
        """Below `root`, or the user's cache directory."""
        self.encoder = encoder
        folder = root or default_cache().parent / "embeddings"
        self.folder = folder / encoder.digest[:16]
        self._texts = _TextRows(encoder, self.folder / "texts")

    def split(self, data: PairData, name: str, limit: int = 0) -> EmbeddedSplit:
        """Embeds the images of a split, or reads what is there. `limit` is the number of good pairs
        after which it ends; 0 for all.

        Raises DataError for data that are not there or too many of which are bad.
        """
        data.split(name)  # is it there?
        digest = fingerprint(data, name, limit)
        file = EmbeddingFile(self.folder / digest[:16], self.encoder.width)
        with locked(file.folder):
            file = EmbeddingFile(file.folder, self.encoder.width)
            if not file.state["done"]:
                total = len_of(data, name)
                self._embed(file, data, name, min(limit or total, total), limit)
        bad = int(file.state.get("bad", 0))
        if not file.rows:
            raise DataError(_nothing(data, name, bad))
        log.info("%s: %d good pairs, %d bad", name, file.rows, bad)
        return EmbeddedSplit(name=name, vectors=file.vectors(), metas=file.lines())

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Embeds texts (B, D), each once; raises TextError for one that is refused."""
        return self._texts(texts)

    def _embed(
        self, file: EmbeddingFile, data: PairData, name: str, total: int, limit: int
    ) -> None:
        tally = PairTally(data.name, len(data.split(name).pieces))
        found = int(file.state.get("found", 0))
        bad = int(file.state.get("bad", 0))
        rows = islice(read_rows(data, name), found, None)
        workers = os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()
        with (
            show_progress(name, total, "images", done=file.rows, leave=True) as advance,
            ThreadPoolExecutor(workers or 1) as pool,
        ):
            while not file.state["done"]:
                part = list(islice(rows, PART))
                pixels = list(pool.map(self._decoded, part))
                good, vectors = [], []
                for row, result in zip(part, pixels, strict=True):
                    if isinstance(result, ReadReport):
                        tally.add(result)
                        bad += result.reasons.total()
                    elif isinstance(row, ImageRow):
                        good.append((row.meta, result))
                if limit:
                    good = good[: limit - file.rows]
                for start in range(0, len(good), BATCH):
                    batch = np.stack([pixel for _, pixel in good[start : start + BATCH]])
                    vectors.append(self.encoder.images(batch))
                    advance(len(batch))
                found += len(part)
                if too_many_bad(bad, found):
                    raise DataError(
                        f"data.path: {data.name}: {bad} of {found} pairs are bad;"
                        " `sparseclip data inspect` shows why"
                    )
                done = len(part) < PART or (limit > 0 and file.rows + len(good) >= limit)
                stacked = np.concatenate(vectors) if vectors else np.zeros((0, file.width))
                metas = [meta for meta, _ in good]
                file.append(stacked, metas, found=found, bad=bad, done=done)

    def _decoded(self, row: ImageRow | BadPair | Damage) -> Any:
        if isinstance(row, Damage):
            return ReadReport(damaged=(row,))
        if isinstance(row, ImageRow):
            try:
                return self.encoder.pixels(row.encoded)
            except ImageError as error:
                row = BadPair(str(row.meta["key"]), str(error))
        return ReadReport(reasons=Counter([row.reason]), bad=(row,))


class _TextRows:
    """Texts with their embeddings, those that were asked for before."""

    def __init__(self, encoder: DenseEncoder, folder: Path) -> None:
        self._encoder, self._folder = encoder, folder
        self._row: dict[str, int] = {}
        self._size = 0  # of the lines that are known: the file only grows

    def __call__(self, texts: Sequence[str]) -> Vectors:
        width = self._encoder.width
        with locked(self._folder):
            file = EmbeddingFile(self._folder, width)
            self._know(file)
            missing = [text for text in dict.fromkeys(texts) if text not in self._row]
            if missing:
                self._embed(file, missing)
            rows = [self._row[text] for text in texts]
            result: Vectors = file.vectors()[rows].astype(np.float32)
            return result

    def _embed(self, file: EmbeddingFile, missing: Sequence[str]) -> None:
        with show_progress("embedding", len(missing), "texts") as advance:
            for start in range(0, len(missing), PART):
                part = missing[start : start + PART]
                batches = [part[i : i + BATCH] for i in range(0, len(part), BATCH)]
                vectors = []
                for batch in batches:
                    vectors.append(self._encoder.texts(batch))
                    advance(len(batch))
                file.append(np.concatenate(vectors), part)
                self._know(file)

    def _know(self, file: EmbeddingFile) -> None:
        """Reads the lines that are new, of this process or another."""
        if file.size < self._size:  # somebody removed the cache
            self._row, self._size = {}, 0
        for text in file.lines(self._size):
            self._row[text] = len(self._row)
        self._size = file.size


def _nothing(data: PairData, name: str, bad: int) -> str:
    line = f"data.path: {data.name} holds no good pair of {name}"
    if bad:
        return f"{line}, and {bad} bad; `sparseclip data inspect` shows why"
    if name == HELD_OUT and not data.has_splits:
        return f"{line}: too few differ; --split all trains on all, and measures nothing"
    return line


def readable_texts(texts: Iterable[str]) -> list[str]:
    """The distinct texts that a text tower takes."""
    kept = []
    for text in dict.fromkeys(texts):
        try:
            clean_text(text)
        except TextError:
            continue
        kept.append(text)
    return kept


def read_rows(data: PairData, name: str) -> Iterator[ImageRow | BadPair | Damage]:
    """The pairs of a split in a fixed order, with their metadata."""
    if data.is_built:
        for sample in read_split(data.path, name):
            yield ImageRow(sample.png, {"key": sample.key, **sample.meta})
        return
    for pair in data.split(name).read_all():
        if isinstance(pair, Pair):
            captions = list(pair.captions)
            yield ImageRow(pair.image, {"key": pair.key, "captions": captions})
        elif isinstance(pair, BadPair | Damage):
            yield pair


def len_of(data: PairData, name: str) -> int:
    """How many pairs a split has; an estimate where the data have no splits of their own."""
    if data.is_built:
        return int(read_index(data.path)["splits"][name]["samples"])
    return data.split(name).pairs


def fingerprint(data: PairData, name: str, limit: int = 0) -> str:
    """A digest of what a split is read from: names, sizes and times of change of its files, and how
    they are read."""
    rule = "" if data.has_splits else data.held_out_rule
    settings = [data.stamp.digest, str(data.path), rule, name, limit]
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()
