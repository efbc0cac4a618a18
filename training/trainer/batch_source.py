"""Where a run's batches come from: a split in memory, or a stream of shards."""

from __future__ import annotations

from collections.abc import Iterator

from training.core.distributed import Ranks
from training.loading.pairs import Batch, Pairs, to_device
from training.loading.stream import Stream, stream_batches
from training.loading.views import FreshViews, Views
from training.model.sparse_clip import SparseCLIP
from training.model.tokenizer import open_clip_tokenizer
from training.model.towers import ImageTower
from training.trainer.cached_views import cached_views
from training.trainer.recipe import TrainingRecipe


class Source:
    """This rank's batches of a recipe, from any step on."""

    def __init__(self, recipe: TrainingRecipe, model: SparseCLIP, group: Ranks) -> None:
        self.recipe, self.group, self.size = recipe, group, model.image.image_size
        text = model.text
        self.encode = open_clip_tokenizer(text.vocabulary, text.context_length)
        self.pairs: Pairs | None = None
        total = recipe.data.stream_pairs
        cached = recipe.data.cached_views
        if cached and (total or not recipe.start.freeze_image):
            raise ValueError("data.cached_views: wants start.freeze_image and data in memory")
        if not total:
            self.pairs = Pairs(recipe.data.folder, recipe.data.split, self.encode)
            total = self.pairs.epoch_size(recipe.data.weights)
            self.views = self._views(self.pairs, model.image)
        self.steps_per_epoch = total // recipe.loop.batch_size
        if self.steps_per_epoch == 0:
            raise ValueError(f"loop.batch_size: an epoch has {total} pairs only")
        self.steps = max(1, round(recipe.loop.epochs * self.steps_per_epoch))

    def _views(self, pairs: Pairs, tower: ImageTower) -> Views:
        if not self.recipe.data.cached_views:
            return FreshViews(pairs.rgba, self.size, self.recipe.augment)
        views = cached_views(pairs, tower, self.recipe, self.group)
        tower.reads_frozen = True
        return views

    def batches(self, start: int) -> Iterator[Batch]:
        """Batches from step `start` on, on this rank's device."""
        device, channels_last = self.group.device, self.recipe.loop.channels_last
        for batch in self._memory(start) if self.pairs is not None else self._stream(start):
            pixels = to_device(batch.pixels, device, channels_last)
            yield Batch(pixels, batch.tokens.to(device, non_blocking=True))

    def _memory(self, start: int) -> Iterator[Batch]:
        recipe, loop = self.recipe, self.recipe.loop
        assert self.pairs is not None
        yield from self.pairs.batches(
            start,
            loop.batch_size,
            loop.seed,
            recipe.data,
            self.views,
            share=(self.group.rank, self.group.count),
        )

    def _stream(self, start: int) -> Iterator[Batch]:
        data, loop, group = self.recipe.data, self.recipe.loop, self.group
        stream = Stream(
            data.folder,
            self.encode,
            size=self.size,
            batch=loop.batch_size // group.count,
            seed=loop.seed,
            rank=group.rank,
            ranks=group.count,
            shuffle=data.stream_shuffle,
            start=start,
        )
        return stream_batches(stream, data.workers)
