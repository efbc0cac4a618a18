"""easy-vqa: questions about a coloured shape (V. Zhou 2019, MIT), from its package.

4,000 images with 38,575 questions to train on, and 1,000 with 9,673 to test; 13 answers.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from mllm_adapter.data.instructions import QuestionAnswer
from training.data.fetch import default_cache, fetch, members
from training.data.recipe import PackageSpec

PACKAGE = PackageSpec(
    manager="pip",
    name="easy-vqa",
    version="1.0",
    sha256="fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f",
)
"""The wheel that holds images and questions, 3 MB; it is read, not installed."""


@dataclass(frozen=True, kw_only=True)
class ShapeQuestions:
    """One part of the data."""

    images: Sequence[Image.Image]
    questions: Sequence[tuple[int, QuestionAnswer]]
    """Each about the image of its number."""


def easy_vqa(part: Literal["train", "test"]) -> ShapeQuestions:
    """Reads a part; fetches the package when it is not there. Raises DataError."""
    archive = fetch(PACKAGE, default_cache())
    folder = f"easy_vqa/data/{part}/"
    found = dict(members(archive, lambda name: name.startswith(folder)))
    rows = json.loads(found[f"{folder}questions.json"])
    count = 1 + max(image for *_, image in rows)
    images = []
    for number in range(count):
        with Image.open(io.BytesIO(found[f"{folder}images/{number}.png"])) as file:
            images.append(file.convert("RGBA"))
    questions = [
        (image, QuestionAnswer(question=question, answer=answer))
        for question, answer, image in rows
    ]
    return ShapeQuestions(images=images, questions=questions)
