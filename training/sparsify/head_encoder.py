"""A head over cached embeddings as an encoder, for figures and names. N images, C concepts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bundle.image import DecodedImage, Reduction
from bundle.preprocessor import Preprocessor
from training.evaluation.encoder import CodeMatrix
from training.evaluation.evaluate import EncodedSplit
from training.loading.samples import MAX_SAMPLES, metas_of
from training.loading.sources.base import Pair
from training.sparsify.embeddings.dense_encoder import Vectors
from training.sparsify.embeddings.embedding_cache import EmbeddedSplit
from training.sparsify.heads.base import CodeHead, TowerSide

_BATCH = 512

Representation = Callable[[Vectors, TowerSide], CodeMatrix]
"""Unit embeddings (B, D) to what is judged: codes (B, C), or vectors."""


@dataclass(frozen=True, kw_only=True)
class EmbeddedSample:
    """An image of which only the embedding is kept. See LabelledImage."""

    key: str
    meta: Mapping[str, Any]

    def image(self) -> Image.Image:
        """Raises NotImplementedError."""
        raise NotImplementedError("only the image's embedding is kept")

    def decoded(self, reduction: Reduction) -> DecodedImage:
        """Raises NotImplementedError."""
        raise NotImplementedError("only the image's embedding is kept")


@dataclass(kw_only=True)
class HeadEncoder:
    """An Encoder of texts, by the embeddings of the teacher."""

    name: str
    embed_texts: Callable[[Sequence[str]], Vectors]
    represent: Representation

    @property
    def preprocess(self) -> Preprocessor:
        """Raises NotImplementedError: the images' embeddings are cached."""
        raise NotImplementedError("images are encoded from their embeddings")

    def images(self, images: Sequence[Image.Image | DecodedImage]) -> CodeMatrix:
        """Raises NotImplementedError: the images' embeddings are cached."""
        raise NotImplementedError("images are encoded from their embeddings")

    def texts(self, texts: Sequence[str]) -> CodeMatrix:
        """Codes of texts."""
        return self.represent(self.embed_texts(texts), "text")


def samples_of(
    split: EmbeddedSplit, data: str, limit: int = MAX_SAMPLES
) -> tuple[list[EmbeddedSample], NDArray[np.int64]]:
    """At most `limit` samples of a split, evenly spaced, with the metadata that names and figures
    need; and their rows."""
    count = len(split.metas)
    rows = np.unique(np.linspace(0, count - 1, min(limit, count)).round().astype(np.int64))
    metas = [split.metas[row] for row in rows.tolist()]
    if metas and "caption" not in metas[0]:  # a user's own data
        pairs = [Pair(m["key"], b"", tuple(m["captions"]) or ("",)) for m in metas]
        metas = metas_of(pairs, data)
    keys = [split.metas[row]["key"] for row in rows.tolist()]
    return [EmbeddedSample(key=k, meta=m) for k, m in zip(keys, metas, strict=True)], rows


def encoded(
    split: EmbeddedSplit, data: str, represent: Representation, *, held_out: bool
) -> EncodedSplit:
    """A split with the codes of its images."""
    samples, rows = samples_of(split, data)
    parts = np.split(rows, range(_BATCH, len(rows), _BATCH))
    codes = [represent(split.vectors[part].astype(np.float32), "image") for part in parts]
    return EncodedSplit(
        name=split.name, samples=samples, codes=np.concatenate(codes), held_out=held_out
    )


def codes_by(head: CodeHead) -> Representation:
    """The codes of a head."""

    @torch.inference_mode()
    def represent(vectors: Vectors, side: TowerSide) -> CodeMatrix:
        tower = head.tower(side)
        parts = [tower(rows) for rows in torch.from_numpy(vectors).split(_BATCH)]
        result: CodeMatrix = torch.cat(parts).numpy()
        return result

    return represent


def reconstruction_by(head: CodeHead) -> Representation:
    """The embeddings that a head makes of its codes."""

    @torch.inference_mode()
    def represent(vectors: Vectors, side: TowerSide) -> CodeMatrix:
        tower = head.tower(side)
        parts = [
            head.reconstruct(tower(rows), side) for rows in torch.from_numpy(vectors).split(_BATCH)
        ]
        result: CodeMatrix = torch.cat(parts).numpy()
        return result

    return represent


def dense_vectors(vectors: Vectors, side: TowerSide) -> CodeMatrix:
    """The teacher's own vectors, as a Representation."""
    return vectors
