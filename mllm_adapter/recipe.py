"""An adapter's training as data: one YAML file, read strictly."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bundle.schema import SchemaError
from mllm_adapter.model.llm import SmallLLM
from training.core.optimizer import OptimizerConfig
from training.core.recipe_file import BaseRecipe
from training.loading.augment import AugmentConfig


@dataclass(frozen=True, kw_only=True)
class LLMConfig:
    """Which LLM speaks: one that exists, or a small one that is trained with the projector."""

    path: str = ""
    """A Hugging Face directory, or `smollm2`, which is fetched."""
    small: SmallLLM | None = None
    """With an empty path: the shape of a new one."""
    lora_rank: int = 0
    """Of stages whose `llm` is lora."""
    system: str = ""
    """A system message that every conversation begins with."""


@dataclass(frozen=True, kw_only=True)
class InstructionsConfig:
    """Which images, and what is asked about them."""

    path: str = "data/build/demo"
    """A data set's folder, as `sparseclip data build` writes it; SPARSECLIP_DATA overrides it."""
    split: str = "train"
    views: int = 3
    """Random views of an image beside the one that is evaluated."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Of the random views."""
    easy_vqa: float = 0.0
    """Share of conversations that are questions of easy-vqa about coloured shapes."""

    @property
    def folder(self) -> Path:
        """Where the shards are."""
        return Path(os.environ.get("SPARSECLIP_DATA", self.path))


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage: what learns, how fast, how long."""

    llm: Literal["frozen", "lora", "full"]
    """LLaVA-1.5's first stage is frozen, its second one full."""
    steps: int
    lr: float
    batch_size: int = 128
    warmup: float = 0.03
    """Share of the stage's steps."""
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    muon: bool = False
    """Muon for the LLM's layers and the projector's second one. A new LLM learns far faster by it;
    what is sparse (embeddings, the rows of concepts) and vectors stay AdamW's."""

    @property
    def optimizer(self) -> OptimizerConfig:
        """As the training of backbones takes it."""
        return OptimizerConfig(
            lr=self.lr,
            warmup=self.warmup,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
        )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """On what, and what is kept."""

    precision: Literal["fp32", "bf16"] = "bf16"
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    log_every: int = 20
    checkpoint_every: int = 200


@dataclass(frozen=True, kw_only=True)
class AdapterRecipe(BaseRecipe):
    """All that decides a run, up to the data's and the backbone's bytes."""

    FOLDER = Path(__file__).parent / "recipes"

    llm: LLMConfig
    stages: tuple[StageConfig, ...]
    bundle: str = ""
    """The backbone's bundle; empty is that of $SPARSECLIP_BUNDLE, or the demo bundle."""
    data: InstructionsConfig = field(default_factory=InstructionsConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def check(self) -> None:
        """Raises SchemaError for a recipe without stages."""
        if not self.stages:
            raise SchemaError("stages: must have one at least")
