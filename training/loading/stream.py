"""Image-caption pairs read from shards as they are needed, for sets that do not fit in memory."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from bundle.image import ImageError, ImageLimits, decode_image
from training.data.recipe import DataError
from training.loading.pairs import Batch, Encode
from training.model.pixels import standardize

BAD_SHARE = 0.1
"""More unreadable pairs than this share of those seen end the run: the data is not what it says."""


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """One rank's batches, for ever: epoch after epoch, each in an order of its own.

    Shards are WebDataset tars with `jpg`, `png` or `webp` beside `txt` or `json` (a `caption`).
    The order depends on seed, epoch, rank and worker only, so that a resumed run skips to its place
    without decoding what it skips. Unreadable pairs are counted and left out (a resumed run is then
    that many pairs behind).
    """

    def __init__(
        self,
        folder: Path,
        encode: Encode,
        *,
        size: int,
        batch: int,
        seed: int,
        rank: int,
        ranks: int,
        shuffle: int,
        start: int,
    ) -> None:
        self.shards = sorted(str(p) for p in folder.glob("*.tar"))
        if not self.shards:
            raise DataError(f"data.path: {folder.name} holds no .tar shards")
        self.encode, self.size, self.batch_size = encode, size, batch
        self.seed, self.rank, self.ranks, self.shuffle = seed, rank, ranks, shuffle
        self.start = start
        self.seen = self.bad = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        info = torch.utils.data.get_worker_info()
        place, workers = (info.id, info.num_workers) if info else (0, 1)
        # Batch i of the run is worker i % workers', and the loader asks its workers in turn.
        worker = (place + self.start) % workers
        skip = len(range(worker, self.start, workers)) * self.batch_size
        part = self.rank * workers + worker
        pairs = self._decoded(islice(self._raw(part, self.ranks * workers), skip, None))
        while True:
            pixels, captions = zip(*islice(pairs, self.batch_size), strict=True)
            yield torch.stack(pixels), self.encode(list(captions))

    def _raw(self, part: int, parts: int) -> Iterator[tuple[dict[str, Any], int]]:
        """Undecoded pairs of this part, shuffled, with their epoch."""
        import webdataset

        for epoch in count():
            order = random.Random(f"{self.seed}/{epoch}")
            shards = list(self.shards)
            order.shuffle(shards)
            mine = shards[part::parts] if len(shards) >= parts else shards
            mixer = random.Random(f"{self.seed}/{epoch}/{part}")
            held: list[dict[str, Any]] = []
            # Ranks and workers have their shards already: webdataset is not to share them again.
            source = webdataset.WebDataset(
                mine, shardshuffle=False, empty_check=False, nodesplitter=None, workersplitter=None
            )
            for i, sample in enumerate(source):
                if len(shards) < parts and i % parts != part:
                    continue
                held.append(sample)
                if len(held) > self.shuffle:
                    spot = mixer.randrange(len(held))
                    held[spot], held[-1] = held[-1], held[spot]
                    yield held.pop(), epoch
            mixer.shuffle(held)
            yield from ((sample, epoch) for sample in held)

    def _decoded(self, raw: Iterator[tuple[dict[str, Any], int]]) -> Iterator[tuple[Tensor, str]]:
        for sample, epoch in raw:
            self.seen += 1
            view = random.Random(f"{self.seed}/{epoch}/{sample['__key__']}")
            try:
                yield random_crop(_image(sample), self.size, view), _caption(sample)
            except (ImageError, ValueError, KeyError):
                self.bad += 1
                if self.seen >= 1000 and self.bad > BAD_SHARE * self.seen:
                    raise DataError(
                        f"data.path: {self.bad} of {self.seen} pairs are unreadable"
                    ) from None


def stream_batches(stream: Stream, workers: int) -> Iterator[Batch]:
    """Batches decoded by `workers` processes ahead of time."""
    loader = DataLoader(
        stream, batch_size=None, num_workers=workers, persistent_workers=workers > 0
    )
    for pixels, tokens in loader:
        yield Batch(pixels, tokens)


def random_crop(image: Image.Image, size: int, view: random.Random) -> Tensor:
    """open_clip's training view: 90 to 100% of the area, sides 3:4 to 4:3, resized to (3, S, S)."""
    image = image.convert("RGB")
    width, height = image.size
    area = width * height * view.uniform(0.9, 1.0)
    aspect = np.exp(view.uniform(np.log(3 / 4), np.log(4 / 3))) * 1.0
    w = min(width, round((area * aspect) ** 0.5))
    h = min(height, round((area / aspect) ** 0.5))
    left, top = view.randint(0, width - w), view.randint(0, height - h)
    box = (left, top, left + max(w, 1), top + max(h, 1))
    resized = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    pixels = torch.from_numpy(np.asarray(resized, dtype=np.float32).transpose(2, 0, 1) / 255)
    return standardize(pixels)


def _image(sample: dict[str, Any]) -> Image.Image:
    data = next((sample[k] for k in ("jpg", "jpeg", "png", "webp") if k in sample), None)
    if data is None:
        raise KeyError("image")
    return decode_image(data, ImageLimits())


def _caption(sample: dict[str, Any]) -> str:
    if "txt" in sample:
        return str(sample["txt"].decode())
    return str(json.load(io.BytesIO(sample["json"]))["caption"])
