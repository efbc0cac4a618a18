"""How callers want their inputs read, and what the model read of them."""

from __future__ import annotations

from collections.abc import Iterable

from bundle.manifest import Framing
from serving.core.coverage import ItemCoverage
from serving.core.errors import invalid
from serving.core.priority_queue import WorkPriority
from serving.core.requests import InputOptions
from sparseclip.v1 import types_pb2

MAX_CAPTIONS = 10
"""How many captions of an image a caller may ask for."""

_FRAMINGS: dict[int, Framing] = {
    types_pb2.IMAGE_FRAMING_CROP: "crop",
    types_pb2.IMAGE_FRAMING_PAD: "pad",
}
_PRIORITIES: dict[int, WorkPriority] = {
    types_pb2.PRIORITY_INTERACTIVE: "interactive",
    types_pb2.PRIORITY_BULK: "bulk",
}
INTERPOLATIONS = {
    "bicubic": types_pb2.IMAGE_INTERPOLATION_BICUBIC,
    "bilinear": types_pb2.IMAGE_INTERPOLATION_BILINEAR,
}
FRAMING_NUMBERS: dict[Framing | None, types_pb2.ImageFraming] = {
    "crop": types_pb2.IMAGE_FRAMING_CROP,
    "pad": types_pb2.IMAGE_FRAMING_PAD,
    None: types_pb2.IMAGE_FRAMING_UNSPECIFIED,
}


def input_options(message: types_pb2.InputOptions) -> InputOptions:
    """How the inputs are read, and when. That the model offers the framing is checked later."""
    return InputOptions(
        framing=framing(message.framing),
        refuse_long_texts=message.refuse_long_texts,
        priority=_PRIORITIES.get(message.priority),
    )


def framing(number: int) -> Framing | None:
    """None is the model's own framing. Unknown numbers are refused before this."""
    return _FRAMINGS.get(number)


def caption_count(count: int, at: str) -> int:
    """How many captions to send. Raises ServingError naming the field."""
    if count > MAX_CAPTIONS:
        raise invalid(at, f"must be at most {MAX_CAPTIONS}")
    return count


def coverage(read: ItemCoverage) -> types_pb2.Coverage:
    """What the model read of an input."""
    return types_pb2.Coverage(
        tokens=read.tokens,
        truncated=read.truncated,
        unknown_words=read.unknown_words,
        framing=FRAMING_NUMBERS[read.framing],
        image_share=read.image_share,
        ground=read.ground,
        frames=read.frames,
    )


def captions(nearest: Iterable[tuple[str, float]]) -> list[types_pb2.ScoredCaption]:
    """Captions with their cosine, best first."""
    return [types_pb2.ScoredCaption(text=text, similarity=cosine) for text, cosine in nearest]
