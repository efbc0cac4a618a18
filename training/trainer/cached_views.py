"""Random views that passed through the frozen layers once. N images, b on a rank, V views in all.

The output of a frozen layer for a view never changes. A run that trains only the layers after it
can read that output instead of pixels (locked-image tuning, arXiv 2111.07991, on precomputed
embeddings).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from bundle.atomic import draft_of
from bundle.progress import show_progress
from bundle.tensor_errors import tensor_writes
from training.core.distributed import Ranks
from training.data.shards import INDEX
from training.loading.augment import WHOLE, BatchPart
from training.loading.pairs import PairsInMemory, to_device
from training.loading.side_by_side import draw_partners
from training.loading.views import DrawnViews, FreshViews
from training.model.strided_trunk import OUTPUT_STRIDE
from training.model.towers import ImageTower
from training.trainer.frozen_layers import frozen_layers
from training.trainer.training_recipe import TrainingRecipe

VIEWS_PER_FORWARD = 128
"""Views that pass through the tower together. Each group has its own seed, so another size would
give other views."""


PARTNERS_SEED = 2**32
"""Above the seeds of the groups."""


class CachedViews:
    """The frozen layers' outputs for every view of every image, in memory backed by a file."""

    def __init__(
        self,
        hidden: Tensor,
        counts: Int[Tensor, " N"],
        partners: Int[Tensor, " V"] | None = None,
        ground: Bool[Tensor, "V P"] | None = None,
    ) -> None:
        """`hidden` (V, ...) has the counts[0] views of image 0 first, then those of image 1, ...
        `partners` and `ground` are those of all views, as DrawnViews has them."""
        self.hidden, self.counts, self.partners, self.ground = hidden, counts, partners, ground
        self.first = counts.cumsum(0) - counts

    def __call__(
        self, index: Int[Tensor, " B"], generator: torch.Generator, part: BatchPart = WHOLE
    ) -> DrawnViews:
        """See Views; the views are outputs of `ImageTower.frozen`, (b, ...)."""
        rows = part.slice_of(len(index))
        # Drawn for the whole batch, so that a run's views do not depend on its ranks.
        draws, own = torch.rand(len(index), generator=generator)[rows], index[rows]
        view = self.first[own] + (draws * self.counts[own]).long()
        partners = None if self.partners is None else self.partners[view]
        ground = None if self.ground is None else self.ground[view]
        return DrawnViews(self.hidden[view], partners, ground)


def view_counts(
    pairs: PairsInMemory, views: int, weights: Mapping[str, float]
) -> Int[Tensor, " N"]:
    """Number of views of each image: `views`, or fewer for a style with a weight below 1, but at
    least one."""
    counts = [math.ceil(views * min(1.0, weights.get(m["style"], 1.0))) for m in pairs.meta]
    return torch.tensor(counts).clamp(min=1)


def cached_views(
    pairs: PairsInMemory, tower: ImageTower, recipe: TrainingRecipe, ranks: Ranks
) -> CachedViews:
    """The views of a recipe, which the first rank computes unless an earlier run has.

    They depend on the data, the frozen weights and the augmentation, but not on the run's seed, so
    that runs share them. Raises ValueError when the tower cannot be cut after its frozen blocks.
    """
    counts = view_counts(pairs, recipe.data.cached_views, recipe.data.weights)
    path = recipe.data.folder / "views" / f"{_cache_key(tower, recipe)}.safetensors"
    if ranks.is_first and not _has_all(path, recipe):
        index = torch.repeat_interleave(torch.arange(len(pairs)), counts)  # (V,), the view's image
        kept = {}
        if recipe.augment.pair:
            generator = torch.Generator().manual_seed(PARTNERS_SEED)
            kept["partners"] = draw_partners(index, index, recipe.augment.pair, generator)
        kept |= _compute(pairs, index, kept.get("partners"), tower, recipe, ranks.device)
        with draft_of(path) as file, tensor_writes():
            save_file(kept, file.name)
    ranks.wait()
    kept = load_file(path)
    ground = kept["ground"] if recipe.loop.ground else None
    return CachedViews(kept["hidden"], counts, kept.get("partners"), ground)


def _has_all(path: Path, recipe: TrainingRecipe) -> bool:
    """Whether an earlier run has kept the views. The oldest files have no `ground`."""
    if not path.is_file():
        return False
    with safe_open(path, "pt") as file:
        return not recipe.loop.ground or "ground" in file.keys()  # noqa: SIM118


@torch.no_grad()
def _compute(
    pairs: PairsInMemory,
    index: Tensor,
    partners: Tensor | None,
    tower: ImageTower,
    recipe: TrainingRecipe,
    device: torch.device,
) -> dict[str, Tensor]:
    """The frozen layers' output `hidden` (V, ...) of all views, and their `ground` (V, P)."""
    views = FreshViews(pairs.rgba, tower.image_size, recipe.augment, tower.grid)
    frozen = frozen_layers(tower, recipe.loop.precision, device)
    stored = torch.bfloat16 if recipe.loop.precision == "bf16" else torch.float32
    hidden = torch.empty(0)
    grounds: list[Tensor] = []
    done = 0
    with show_progress("caching", len(index), "views") as advance:
        for number, group in enumerate(index.split(VIEWS_PER_FORWARD)):
            generator = torch.Generator().manual_seed(number)
            shown = slice(done, done + len(group))
            drawn = views.views(group, None if partners is None else partners[shown], generator)
            output = frozen(to_device(drawn.pixels, device, recipe.loop.channels_last))
            if not done:
                hidden = torch.empty(len(index), *output.shape[1:], dtype=stored)
            hidden[shown] = output
            assert drawn.ground is not None
            grounds.append(drawn.ground)
            done += len(group)
            advance(len(group))
    return {"hidden": hidden, "ground": torch.cat(grounds)}


def _cache_key(tower: ImageTower, recipe: TrainingRecipe) -> str:
    """A digest of all that the views depend on: it names their file, so it must stay as it is."""
    data, augment = recipe.data, asdict(recipe.augment)
    if not recipe.augment.jpeg:  # as before there were such fields
        del augment["jpeg"], augment["jpeg_quality"]
    if not recipe.augment.small:
        del augment["small"], augment["small_scale"]
    if not recipe.augment.pair:
        del augment["pair"]
    settings = {
        "split": data.split,
        "weights": data.weights,
        "views": data.cached_views,
        "augment": augment,
        "size": tower.image_size,
        "precision": recipe.loop.precision,
    }
    if OUTPUT_STRIDE in recipe.model.vision:  # it changes neither weights nor pixels
        settings["grid"] = tower.grid
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update((data.folder / INDEX).read_bytes())
    learning = {name for name, weight in tower.named_parameters() if weight.requires_grad}
    for name, value in tower.state_dict().items():
        if name not in learning:
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]
