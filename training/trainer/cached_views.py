"""Random views of images, kept as the frozen layers see them. N images, b images of a rank.

What a frozen layer makes of a view never changes, so a run that trains only the layers behind it
can read that instead of pixels (locked-image tuning on precomputed embeddings, arXiv 2111.07991).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict

import torch
from jaxtyping import Int
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from bundle.atomic import draft_of
from training.core.distributed import Ranks
from training.core.precision import autocast
from training.data.shards import INDEX
from training.loading.pairs import Pairs, to_device
from training.loading.views import FreshViews
from training.model.towers import ImageTower
from training.trainer.recipe import TrainingRecipe

CHUNK = 128
"""Views that go through the tower at a time."""


class CachedViews:
    """What the frozen layers gave for each of an image's views, in memory that a file backs."""

    def __init__(self, hidden: Tensor, counts: Int[Tensor, " N"]) -> None:
        self.hidden, self.counts = hidden, counts
        self.first = counts.cumsum(0) - counts

    def __call__(
        self, index: Int[Tensor, " b"], generator: torch.Generator, share: tuple[int, int] = (0, 1)
    ) -> Tensor:
        """The hidden values of one view each, as `ImageTower.frozen` gave them."""
        part, parts = share
        draws = torch.rand(len(index) * parts, generator=generator)
        mine = draws[len(index) * part : len(index) * (part + 1)]
        return self.hidden[self.first[index] + (mine * self.counts[index]).long()]


def view_counts(pairs: Pairs, views: int, weights: Mapping[str, float]) -> Int[Tensor, " N"]:
    """Views of each image: in proportion to its style's weight, but one at least."""
    counts = [math.ceil(views * min(1.0, weights.get(m["style"], 1.0))) for m in pairs.meta]
    return torch.tensor(counts).clamp(min=1)


def cached_views(
    pairs: Pairs, tower: ImageTower, recipe: TrainingRecipe, group: Ranks
) -> CachedViews:
    """The views of a recipe, computed by the first rank unless a run before this one did.

    They depend on the data, the frozen weights and how views are drawn, not on the run's seed, so
    that runs share them. Raises ValueError when the tower cannot be cut behind its frozen blocks.
    """
    counts = view_counts(pairs, recipe.data.cached_views, recipe.data.weights)
    path = recipe.data.folder / "views" / f"{_key(tower, recipe)}.safetensors"
    if group.is_first and not path.is_file():
        hidden = _compute(pairs, counts, tower, recipe, group.device)
        with draft_of(path) as file:
            save_file({"hidden": hidden}, file.name)
    group.wait()
    return CachedViews(load_file(path)["hidden"], counts)


@torch.no_grad()
def _compute(
    pairs: Pairs, counts: Tensor, tower: ImageTower, recipe: TrainingRecipe, device: torch.device
) -> Tensor:
    index = torch.repeat_interleave(torch.arange(len(pairs)), counts)
    views = FreshViews(pairs.rgba, tower.image_size, recipe.augment)
    pieces = []
    with tqdm(total=len(index), desc="views", unit="view", leave=False) as bar:
        for number, chunk in enumerate(index.split(CHUNK)):
            generator = torch.Generator().manual_seed(number)
            pixels = to_device(views(chunk, generator), device, recipe.loop.channels_last)
            with autocast(recipe.loop.precision, device):
                pieces.append(tower.frozen(pixels).cpu().contiguous())
            bar.update(len(chunk))
    return torch.cat(pieces)


def _key(tower: ImageTower, recipe: TrainingRecipe) -> str:
    """A digest of all that the views depend on."""
    data = recipe.data
    chosen = {
        "split": data.split,
        "weights": data.weights,
        "views": data.cached_views,
        "augment": asdict(recipe.augment),
        "size": tower.image_size,
        "precision": recipe.loop.precision,
    }
    digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode())
    digest.update((data.folder / INDEX).read_bytes())
    learning = {name for name, weight in tower.named_parameters() if weight.requires_grad}
    for name, value in tower.state_dict().items():
        if name not in learning:
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]
