"""easy-vqa: questions about one coloured shape (V. Zhou 2019, MIT), from its Python package.

Training: 4,000 images with 38,575 questions. Test: 1,000 images with 9,673 questions. There are 13
answers.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from mllm_adapter.data.instructions import QuestionAnswer
from training.data.data_recipe import PackageSpec
from training.data.fetch import default_cache, fetch, members

PACKAGE = PackageSpec(
    manager="pip",
    name="easy-vqa",
    version="1.0",
    sha256="fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f",
)
"""The wheel of images and questions, 3 MB. It is read, not installed."""


@dataclass(frozen=True, kw_only=True)
class ShapeQuestions:
    """The training or the test part of easy-vqa."""

    images: Sequence[Image.Image]
    questions: Sequence[tuple[int, QuestionAnswer]]
    """Pairs of an index into `images` and a question about that image."""


def easy_vqa(part: Literal["train", "test"]) -> ShapeQuestions:
    """Reads a part, after fetching the package if necessary. Raises DataError."""
    archive = fetch(PACKAGE, default_cache())
    folder = f"easy_vqa/data/{part}/"
    files = dict(members(archive, lambda name: name.startswith(folder)))
    rows = json.loads(files[f"{folder}questions.json"])
    count = 1 + max(image for *_, image in rows)
    images = []
    for number in range(count):
        with Image.open(io.BytesIO(files[f"{folder}images/{number}.png"])) as file:
            images.append(file.convert("RGBA"))
    questions = [
        (image, QuestionAnswer(question=question, answer=answer))
        for question, answer, image in rows
    ]
    return ShapeQuestions(images=images, questions=questions)
