"""What the model read of an input, and what it did not. It goes with the item's answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from bundle.manifest import Framing
from bundle.preprocessor import ImageCoverage


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemCoverage:
    """What the model read of one image or text. Fields of the other kind keep their default."""

    tokens: int = 0
    """The tokens of the whole text, its start and end included."""
    truncated: bool = False
    """The text has more tokens than the model's context, and its end was not read."""
    unknown_words: tuple[str, ...] = ()
    """The words of the text that the text tower does not know."""
    framing: Framing | None = None
    """How the image was framed; None where the model squashes its images."""
    image_share: float = 0.0
    """The share of the image's area that the model read, in (0, 1]."""
    ground: int | None = None
    """The colour that was laid under a transparent image, 0xRRGGBB; None for others."""
    frames: int = 0
    """The frames of an animation, of which the first is read; 1 for a still image."""

    @classmethod
    def of_image(cls, read: ImageCoverage) -> Self:
        """The coverage of an image."""
        return cls(
            framing=read.framing,
            image_share=read.image_share,
            ground=read.ground,
            frames=read.frames,
        )

    def shortfalls(self, active: int | None) -> tuple[str, ...]:
        """What the answer to an input with `active` concepts does not rest on, for the metrics.
        None: the model is dense."""
        possible = {
            "truncated": self.truncated,
            "unknown_words": bool(self.unknown_words),
            "cropped": 0 < self.image_share < 1,
            "ground": self.ground is not None,
            "frames": self.frames > 1,
            "no_concept": active == 0,
        }
        return tuple(what for what, holds in possible.items() if holds)


NO_COVERAGE = ItemCoverage()
"""Of an input that nobody measured, such as the server's own probes."""
