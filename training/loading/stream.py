"""Image-caption pairs streamed as they are needed, for any data. S image side."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from bundle.ground import lay_on_ground
from bundle.image import ImageError, ImageLimits, decode_image
from bundle.resizing import resize
from training.data.data_recipe import DataError
from training.loading.pair_data import PairSplit
from training.loading.pairs import PairBatch, Tokenize
from training.loading.sources.base import BadPair, Damage, OtherMembers, Pair
from training.loading.tally import MAX_NAMED, PairTally, ReadReport, by_number, too_many_bad
from training.model.pixels import preprocessing, standardize

BUFFER_BYTES = 2**29
"""Bytes of the encoded images in one shuffle buffer; large images make it hold fewer pairs."""


class StreamItem(NamedTuple):
    """A batch, or why there is none."""

    pixels: Tensor
    tokens: Tensor
    report: ReadReport
    """What was read for this batch."""
    failure: str = ""
    """Why the stream cannot go on. An exception from a worker process would be many lines."""


class PairStream(IterableDataset[StreamItem]):
    """One rank's batches, without end: epoch after epoch, each in another order.

    The order depends on seed, epoch, rank and worker only, so a resumed run skips the pairs that it
    has read without decoding them. Bad pairs are counted and left out; as skipping does not notice
    images that cannot be decoded, a resumed run reads as many pairs once more. Every pass over the
    data ends, and one that gave no good pair ends the stream.
    """

    def __init__(
        self,
        pairs: PairSplit,
        tokenize: Tokenize,
        *,
        size: int,
        batch_size: int,
        seed: int,
        rank: int,
        ranks: int,
        shuffle: int,
        start: int,
        canonical: float,
        epoch_pairs: int,
    ) -> None:
        """`canonical` is the probability of an image's first caption, and `epoch_pairs` how many
        pairs the data are said to have."""
        self.pairs, self.tokenize, self.size, self.batch_size = pairs, tokenize, size, batch_size
        self.seed, self.rank, self.ranks, self.shuffle = seed, rank, ranks, shuffle
        self.start, self.canonical = start, canonical
        self.epoch_pairs = epoch_pairs
        self._report = ReadReport()
        self._pass = PassCounts()

    def __iter__(self) -> Iterator[StreamItem]:
        info = torch.utils.data.get_worker_info()
        worker_id, workers = (info.id, info.num_workers) if info else (0, 1)
        # Worker i % workers makes batch i of the run. The loader asks its workers in turn, starting
        # with the one of id 0, which in a resumed run stands in for worker start % workers.
        worker = (worker_id + self.start) % workers
        skip = len(range(worker, self.start, workers)) * self.batch_size
        part = self.rank * workers + worker
        pairs = self._decoded(part, self.ranks * workers, skip)
        none = torch.empty(0)
        while True:
            try:
                pixels, captions = zip(*islice(pairs, self.batch_size), strict=True)
            except DataError as error:
                yield StreamItem(none, none, self._take_report(), str(error))
                return
            tokens, cut = self.tokenize(list(captions))
            self._report = self._report._replace(cut=cut)
            yield StreamItem(torch.stack(pixels), tokens, self._take_report())

    def _take_report(self) -> ReadReport:
        report, self._report = self._report, ReadReport(reasons=Counter())
        return report

    def _decoded(self, part: int, parts: int, skip: int) -> Iterator[tuple[Tensor, str]]:
        """Views and captions of one part of the data, without end, after `skip` pairs.

        Raises DataError when too much is lost.
        """
        for epoch in count():
            done = self._pass = PassCounts(part=part, parts=parts)
            for pair in self._shuffled(epoch):
                if skip:
                    skip, done.skipped = skip - 1, done.skipped + 1
                    continue
                view = random.Random(f"{self.seed}/{epoch}/{pair.key}")
                try:
                    pixels = random_crop(decode_image(pair.image, ImageLimits()), self.size, view)
                except ImageError as error:
                    self._count_bad(BadPair(pair.key, str(error)))
                    continue
                done.good += 1
                self._report = self._report._replace(good=self._report.good + 1)
                yield pixels, self._caption(pair, view)
            if not done.good and not done.skipped:
                if parts == 1:
                    raise self._lost("no good pair")
                part, parts = 0, 1  # too few pairs for every part to have one: this one reads all
            elif too_many_bad(done.bad.total(), done.read):
                raise self._lost("too many bad pairs")

    def _shuffled(self, epoch: int) -> Iterator[Pair]:
        """The good pairs of this part, not decoded yet."""
        part, parts = self._pass.part, self._pass.parts
        pieces = list(self.pairs.pieces)
        random.Random(f"{self.seed}/{epoch}").shuffle(pieces)
        # With fewer pieces than parts, every part reads all pieces and keeps every n-th pair.
        by_piece = len(pieces) >= parts
        own_pieces = pieces[part::parts] if by_piece else pieces
        mixer = random.Random(f"{self.seed}/{epoch}/{part}")
        buffer: list[Pair] = []
        held, number = 0, 0
        for found in (found for piece in own_pieces for found in self.pairs.read(piece)):
            if isinstance(found, Damage):
                self._count_damage(found)
                continue
            if isinstance(found, OtherMembers):
                self._report = self._report._replace(others=(*self._report.others, found))
                continue
            number += 1
            if not by_piece and number % parts != part:
                continue
            if isinstance(found, BadPair):
                self._count_bad(found)
                continue
            buffer.append(found)
            held += len(found.image)
            while len(buffer) > self.shuffle or held > BUFFER_BYTES:
                picked = mixer.randrange(len(buffer))
                buffer[picked], buffer[-1] = buffer[-1], buffer[picked]
                held -= len(buffer[-1].image)
                yield buffer.pop()
        mixer.shuffle(buffer)
        yield from buffer

    def _caption(self, pair: Pair, view: random.Random) -> str:
        """One of a pair's captions: the first with the probability `canonical`, or any other."""
        first, *others = pair.captions
        return first if not others or view.random() < self.canonical else view.choice(others)

    def _count_bad(self, pair: BadPair) -> None:
        report, done = self._report, self._pass
        done.bad[pair.reason] += 1
        reasons = report.reasons + Counter([pair.reason])
        named = (*report.bad, pair)[:MAX_NAMED]
        self._report = report._replace(reasons=reasons, bad=named)
        if too_many_bad(done.bad.total(), max(done.read, self.epoch_pairs // done.parts)):
            raise self._lost("too many bad pairs")

    def _count_damage(self, damage: Damage) -> None:
        self._report = self._report._replace(damaged=(*self._report.damaged, damage))
        self._pass.damaged += 1

    def _lost(self, what: str) -> DataError:
        done = self._pass
        line = f"data.path: {self.pairs.data}: {what}: {done.good} good, {done.bad.total()} bad"
        line += f" ({by_number(done.bad)})" if done.bad else ""
        return DataError(line + (f", {done.damaged} files damaged" if done.damaged else ""))


@dataclass
class PassCounts:
    """Counts of one pass over one part of the data."""

    part: int = 0
    parts: int = 1
    good: int = 0
    skipped: int = 0
    damaged: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    """Bad pairs by reason."""

    @property
    def read(self) -> int:
        """Pairs that were read, good, bad or skipped."""
        return self.good + self.skipped + self.bad.total()


def stream_batches(stream: PairStream, workers: int, tally: PairTally) -> Iterator[PairBatch]:
    """Batches decoded by `workers` processes ahead of time, which `tally` counts.

    Raises DataError when too much is lost to go on.
    """
    loader = DataLoader(
        stream,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=_as_it_is,
    )
    items = iter(loader)
    while True:
        try:
            pixels, tokens, report, failure = next(items)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            problem = "data.workers: a process that decodes pairs was ended, perhaps for its memory"
            raise DataError(problem) from None
        tally.add(ReadReport(*report))
        if failure:
            raise DataError(failure)
        yield PairBatch(pixels, tokens)


def _as_it_is(item: Any) -> Any:
    """The library's own conversion rebuilds what is in an item, and counts it twice."""
    return item


def random_crop(image: Image.Image, size: int, view: random.Random) -> Tensor:
    """open_clip's training view, (3, S, S): 90 to 100% of the area, at 3:4 to 4:3, resized.

    A transparent image lies on the ground that serving lays it on.
    """
    image, _ = lay_on_ground(image, preprocessing(size).background)
    width, height = image.size
    area = width * height * view.uniform(0.9, 1.0)
    aspect = np.exp(view.uniform(np.log(3 / 4), np.log(4 / 3))) * 1.0
    w = min(width, round((area * aspect) ** 0.5))
    h = min(height, round((area / aspect) ** 0.5))
    left, top = view.randint(0, width - w), view.randint(0, height - h)
    box = (left, top, left + max(w, 1), top + max(h, 1))
    resized = resize(image, (size, size), "bicubic", box)
    pixels = torch.from_numpy(np.asarray(resized, dtype=np.float32).transpose(2, 0, 1) / 255)
    return standardize(pixels)
