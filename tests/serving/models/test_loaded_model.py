"""What a model offers its callers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from serving.core.coverage import ItemCoverage
from serving.core.errors import ErrorKind, ServingError
from serving.models.loaded_model import ServedModel


@pytest.mark.parametrize(
    ("offered", "problem"),
    [
        (("crop",), "options.framing: this model offers crop"),
        ((), "options.framing: this model offers none: it squashes its images"),
    ],
)
def test_a_framing_that_is_not_offered_is_named(offered: tuple[str, ...], problem: str) -> None:
    model: Any = SimpleNamespace(framings=offered)
    ServedModel.check_framing(model, None, "options.framing")
    with pytest.raises(ServingError) as caught:
        ServedModel.check_framing(model, "pad", "options.framing")
    assert (caught.value.kind, caught.value.field) == (ErrorKind.INVALID, "options.framing")
    assert caught.value.message == problem


def test_shortfalls_are_what_the_answer_does_not_rest_on() -> None:
    assert ItemCoverage(tokens=3).shortfalls(2) == ()
    assert ItemCoverage(framing="crop", image_share=1.0, frames=1).shortfalls(2) == ()
    part = ItemCoverage(framing="crop", image_share=0.5, ground=0, frames=2)
    assert part.shortfalls(0) == ("cropped", "ground", "frames", "no_concept")
    assert part.shortfalls(None) == ("cropped", "ground", "frames")  # a dense model has none
    text = ItemCoverage(tokens=40, truncated=True, unknown_words=("ufo",))
    assert text.shortfalls(1) == ("truncated", "unknown_words")
