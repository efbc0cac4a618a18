"""The batches of a run: from a split in memory, or from a stream of shards."""

from __future__ import annotations

from collections.abc import Iterator

from training.core.distributed import Ranks
from training.data.data_recipe import DataError
from training.loading.augment import BatchPart
from training.loading.pairs import PairBatch, PairsInMemory, to_device
from training.loading.stream import PairStream, stream_batches
from training.loading.tally import PairTally, log_left_out
from training.loading.views import FreshViews, Views
from training.model.sparse_clip import SparseCLIP
from training.model.tokenizer import CaptionTokenizer
from training.model.towers import ImageTower
from training.trainer.cached_views import cached_views
from training.trainer.training_recipe import TrainingRecipe


class BatchSource:
    """This rank's part of a recipe's batches, from any step on."""

    def __init__(self, recipe: TrainingRecipe, model: SparseCLIP, ranks: Ranks) -> None:
        """Reads the data. With cached views `model.image` then reads those instead of pixels."""
        self.recipe, self.ranks, self.size = recipe, ranks, model.image.image_size
        self.tokenizer = CaptionTokenizer.of_model(model)
        self.pairs: PairsInMemory | None = None
        self.tally = PairTally(recipe.data.folder.name, 0)
        """What this rank has read of a stream; nothing of pairs in memory."""
        data = recipe.data.open()
        epoch_size = recipe.data.stream_pairs
        is_streamed = epoch_size > 0 or not data.is_built
        if recipe.data.cached_views and (is_streamed or not recipe.start.freeze_image):
            raise ValueError("data.cached_views: wants start.freeze_image and data in memory")
        if recipe.augment.pair and is_streamed:
            raise ValueError("augment.pair: wants data in memory")
        if recipe.loop.ground and is_streamed:
            raise ValueError("loop.ground: wants data in memory")
        if recipe.data.weights and is_streamed:
            raise ValueError("data.weights: a stream takes its pairs as they come")
        if is_streamed:
            self.split = data.split(recipe.data.split)
            epoch_size = epoch_size or self.split.pairs
            if epoch_size == 0:
                raise DataError(f"data.path: {data.name} holds no pairs of images and captions")
            self.epoch_pairs = epoch_size
            log_left_out(data.name, self.split.source.left_out)
            self.tally = PairTally(data.name, len(self.split.pieces))
        else:
            self.pairs = PairsInMemory(recipe.data.folder, recipe.data.split, self.tokenizer)
            epoch_size = self.pairs.epoch_size(recipe.data.weights)
            self.views = self._views(self.pairs, model.image)
        self.steps_per_epoch = epoch_size // recipe.loop.batch_size
        if self.steps_per_epoch == 0:
            raise ValueError(f"loop.batch_size: an epoch has {epoch_size} pairs only")
        self.steps = max(1, round(recipe.loop.epochs * self.steps_per_epoch))
        """Steps of the whole run."""

    def _views(self, pairs: PairsInMemory, tower: ImageTower) -> Views:
        if not self.recipe.data.cached_views:
            grid = tower.grid if self.recipe.loop.ground else None
            return FreshViews(pairs.rgba, self.size, self.recipe.augment, grid)
        views = cached_views(pairs, tower, self.recipe, self.ranks)
        tower.reads_frozen = True
        return views

    def batches(self, start: int) -> Iterator[PairBatch]:
        """Batches from step `start` on, without end, on this rank's device."""
        device, channels_last = self.ranks.device, self.recipe.loop.channels_last
        for batch in self._in_memory(start) if self.pairs is not None else self._streamed(start):
            pixels = to_device(batch.pixels, device, channels_last)
            tokens = batch.tokens.to(device, non_blocking=True)
            captions = None if batch.captions is None else batch.captions.to(device)
            ground = None if batch.ground is None else batch.ground.to(device)
            yield PairBatch(pixels, tokens, captions, ground)

    def _in_memory(self, start: int) -> Iterator[PairBatch]:
        recipe, loop = self.recipe, self.recipe.loop
        assert self.pairs is not None
        yield from self.pairs.batches(
            start,
            loop.batch_size,
            loop.seed,
            recipe.data,
            self.views,
            part=BatchPart(self.ranks.rank, self.ranks.count),
        )

    def _streamed(self, start: int) -> Iterator[PairBatch]:
        data, loop, ranks = self.recipe.data, self.recipe.loop, self.ranks
        stream = PairStream(
            self.split,
            self.tokenizer,
            size=self.size,
            batch_size=loop.batch_size // ranks.count,
            seed=loop.seed,
            rank=ranks.rank,
            ranks=ranks.count,
            shuffle=data.stream_shuffle,
            start=start,
            canonical=data.canonical,
            epoch_pairs=self.epoch_pairs,
        )
        return stream_batches(stream, data.workers, self.tally)
