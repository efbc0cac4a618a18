"""Images whose codes an adapter learns from: of a data set, of one's own pairs, of easy-vqa."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mllm_adapter.data.easy_vqa import PACKAGE, ShapeQuestions
from training.data.data_recipe import DataError
from training.data.shards import INDEX
from training.loading.pair_data import PairData
from training.loading.samples import MAX_SAMPLES, LabelledImage, OwnSample, read_samples

log = logging.getLogger(__name__)

CODES_FOLDER = "codes"
"""Where codes are kept: beside a data set that was built, and in the folder of a run for other
images, whose folder is not ours."""


@dataclass(frozen=True, kw_only=True)
class ImageCollection:
    """Images in a fixed order."""

    source: tuple[str, ...]
    """What identifies the images."""
    count: int
    images: Callable[[], Iterable[Image.Image]]
    """Decodes them, one after another."""
    folder: Path
    """Where their codes are kept."""


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """A split of pairs: its images, and what is known about each."""

    collection: ImageCollection
    meta: Sequence[Mapping[str, Any]]
    """See LabelledImage.meta."""

    @classmethod
    def read(cls, data: PairData, split: str, run: Path) -> LabelledImages:
        """Reads the images of a split. Of pairs that `sparseclip data build` did not write there
        are at most MAX_SAMPLES. `run` is where codes of a user's own images are kept. Raises
        DataError."""
        samples = read_samples(data, [split])[split]
        if not samples:
            raise DataError(f"data.path: {data.name} holds no good pair of {split}")
        if data.is_built:
            index = hashlib.sha256((data.path / INDEX).read_bytes()).hexdigest()
            source, folder = (index, split), data.path / CODES_FOLDER
        else:
            source, folder = ("own", _digest(samples)), run / CODES_FOLDER
            pairs = data.split(split).pairs if len(samples) == MAX_SAMPLES else 0
            if pairs > MAX_SAMPLES:
                log.warning("data.path: %d of about %d pairs are used", MAX_SAMPLES, pairs)
        collection = ImageCollection(
            source=source,
            count=len(samples),
            images=lambda: (sample.image() for sample in samples),
            folder=folder,
        )
        return cls(collection=collection, meta=[sample.meta for sample in samples])


def shape_images(questions: ShapeQuestions, part: str, folder: Path) -> ImageCollection:
    """The images of a part of easy-vqa."""
    return ImageCollection(
        source=(PACKAGE.label, part),
        count=len(questions.images),
        images=lambda: questions.images,
        folder=folder,
    )


def _digest(samples: Sequence[LabelledImage]) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        if isinstance(sample, OwnSample):
            digest.update(hashlib.sha256(sample.encoded).digest())
    return digest.hexdigest()
