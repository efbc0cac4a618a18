"""The contract of a head. B batch, M texts, D width of the embeddings, C concepts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bundle.schema import Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from training.core.optimizer import OptimizerConfig
from training.core.recipe_file import BaseRecipe
from training.sparsify.embeddings.head_data import HeadBatch, HeadData
from training.sparsify.heads._tower_head import TowerHead

TowerSide = Literal["image", "text"]
SIDES: tuple[TowerSide, ...] = ("image", "text")


@dataclass(frozen=True, kw_only=True)
class HeadRecipe(BaseRecipe):
    """How a head is trained. Its `name` is that of the head."""

    FOLDER: ClassVar[Path] = Path(__file__).parent

    data: str
    """Digest of the embeddings that it is trained on."""
    width: PositiveInt
    """D."""
    concepts: PositiveInt
    """C."""
    l0: Fraction
    """The largest share of C that may be active, on the average of images, and of texts."""
    steps: PositiveInt
    batch_size: PositiveInt
    """Images of a step."""
    texts: NonNegativeInt = 0
    """Texts of a step that are drawn for themselves; for a head without `needs_captions`."""
    mixing: NonNegativeFloat
    """How far at most the images of a step are moved towards others; see HeadData.batch."""
    scale_cap: PositiveFloat
    """The upper bound of exp(logit scale) of the codes."""
    teacher_scale: PositiveFloat
    """exp(logit scale) of the dense model."""
    optimizer: OptimizerConfig
    seed: int
    checkpoint_every: PositiveInt


class CodeHead(nn.Module, ABC):
    """Unit embeddings of images and texts to codes, and how they are learned.

    What is served is `image` and `text` alone.
    """

    needs_captions: ClassVar[bool] = True
    """Whether it is trained on images with their captions. Else texts are drawn for themselves from
    the vocabulary."""
    mixing: ClassVar[float] = 0.0
    """How far at most it moves the images of a step towards others."""
    trains: ClassVar[bool] = True
    """Whether it has steps to take. A head without has as many concepts as the vocabulary at most.
    """
    exports: ClassVar[bool] = True
    """Whether it can be put into a bundle; else it is only measured."""
    reconstructs: ClassVar[bool] = False
    """Whether its codes stand for embeddings that `reconstruct` gives back."""

    def __init__(self, recipe: HeadRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.image = TowerHead(recipe.width, recipe.concepts)
        self.text = TowerHead(recipe.width, recipe.concepts)

    def tower(self, side: TowerSide) -> TowerHead:
        """The head of one tower."""
        return self.image if side == "image" else self.text

    @abstractmethod
    def begin(self, data: HeadData) -> None:
        """Sets random first weights, the control. torch's generator is seeded."""

    def learn(self, data: HeadData) -> None:
        """What the head takes from the data before its first step. torch's generator is seeded."""

    @abstractmethod
    def loss(self, batch: HeadBatch) -> Float[Tensor, ""]:
        """The loss of a step."""

    @torch.no_grad()
    def after_step(self) -> None:
        """What follows each step of the optimiser."""

    @torch.no_grad()
    def finish(self, data: HeadData) -> None:
        """Makes `image` and `text` what is served, and holds their codes to the share `l0`."""

    def reconstruct(self, codes: Float[Tensor, "B C"], side: TowerSide) -> Float[Tensor, "B D"]:
        """The embeddings that codes stand for, of a head that `reconstructs`."""
        raise NotImplementedError

    @property
    def scale(self) -> float:
        """exp(logit scale) of the codes."""
        return self.recipe.scale_cap
