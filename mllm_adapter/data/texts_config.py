"""The section `texts` of an adapter's recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from bundle.schema import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    NumberRange,
    PositiveFloat,
    SchemaError,
)
from mllm_adapter.steering.phrases import DEFAULT_TOP
from mllm_adapter.steering.plan import MAX_VALUE


@dataclass(frozen=True, kw_only=True)
class TextsConfig:
    """Phrases that the LLM learns to say without an image: their text codes take its place."""

    share: Fraction = 0.0
    """The share of conversations that are about phrases; at 0.5 there is one for each other."""
    captions: bool = True
    """Take the captions of the images that are learned from."""
    keywords: bool = True
    """Take their keywords."""
    words: NonNegativeInt = 0
    """Take so many words and phrases of WordNet, the most used first, from the data's words.txt."""
    lists: tuple[str, ...] = ()
    """Take phrases from files of your own, one a line."""
    without: str = ""
    """A file of words and phrases, one a line, that must not be learned: whatever has one is left
    out of texts and of images. It holds at a share of 0, too."""
    top: Annotated[int, NumberRange(1, 4096)] = DEFAULT_TOP
    """How many concepts a phrase becomes."""
    strength: tuple[PositiveFloat, PositiveFloat] = (1.0, 4.0)
    """Bounds of the value of its strongest concept; the others get proportionally less."""
    noise: NonNegativeFloat = 0.1
    """The standard deviation of the logarithm of each value."""
    kept: Fraction = 0.5
    """The share of phrases that are put on an image whose caption is suppressed. The others are on
    empty patches."""
    part: Fraction = 0.25
    """The share of single phrases that are on a part of the patches only."""
    pairs: Fraction = 0.15
    """The share of conversations about two phrases, each on a part of the patches."""
    empty: Fraction = 0.02
    """The share of conversations about empty patches, in which nothing can be seen."""

    def check(self) -> None:
        """Raises SchemaError for values that are missing or contradict each other."""
        low, high = self.strength
        if low > high or high > MAX_VALUE:
            raise SchemaError(
                f"texts.strength: must be two values of at most {MAX_VALUE:g}, the lower one first"
            )
        if self.pairs + self.empty > 1:
            raise SchemaError("texts.pairs, texts.empty: are more than 1 together")
        if self.share and not (self.captions or self.keywords or self.words or self.lists):
            raise SchemaError("texts: names no source of phrases")
