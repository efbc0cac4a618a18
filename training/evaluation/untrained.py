"""The control of figures that interpret concepts: the trained towers under untrained heads.

Clarity and the like hardly tell trained dictionaries from untrained ones where the network beneath
has learned (arXiv 2606.24716). So what a head of random directions shows as well was not learned by
the head. B batch, C concepts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from bundle.codes import ACTIVE_ABOVE
from bundle.image import DecodedImage
from training.evaluation.encoder import CheckpointEncoder, CodeMatrix, Encoder


class UntrainedHead:
    """Heads as the recipe's model starts with, over the trained towers of a checkpoint."""

    def __init__(self, encoder: CheckpointEncoder, seed: int = 0) -> None:
        """The heads depend on the model's shape and the seed alone."""
        import torch

        from training.model.sparse_head import SparseHead

        config = encoder.model.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # Without the bias and the TopK, by which a head has few active concepts: see `as_few`.
            self._image, self._text = (
                SparseHead(
                    width,
                    config.embed_dim,
                    config.concepts,
                    kind=config.head,
                    relu=True,
                    rep_relu=False,
                )
                .to(encoder.device)
                .eval()
                for width in (encoder.model.image.width, encoder.model.text.width)
            )
        self._encoder = encoder

    def beside(self, images: Sequence[Image.Image | DecodedImage]) -> CodeMatrix:
        """The checkpoint's codes and the control's, (B, 2 C), from one run of the tower."""
        import torch

        model = self._encoder.model
        with torch.inference_mode():
            features = model.image(self._encoder.pixels(images))
            rows = [
                model.image_encoding(features, head).codes.float().cpu().numpy()
                for head in (model.image_head, self._image)
            ]
        return np.hstack([rows[0], as_few(rows[1], rows[0])])

    def texts_beside(self, texts: Sequence[str]) -> CodeMatrix:
        """The same of texts."""
        import torch

        model = self._encoder.model
        with torch.inference_mode():
            features = model.text(self._encoder.tokens(texts))
            rows = [
                head.row_codes(head.dense(features)).float().cpu().numpy()
                for head in (model.text_head, self._text)
            ]
        return np.hstack([rows[0], as_few(rows[1], rows[0])])


def as_few(codes: CodeMatrix, model: CodeMatrix) -> CodeMatrix:
    """Codes (B, C) of which each row keeps its strongest, as many as are active in `model` (B, C):
    at equal L0 neither has the easier task. A row where fewer fire keeps all."""
    active = (model > ACTIVE_ABOVE).sum(axis=1)
    ordered = -np.sort(-codes, axis=1)
    lowest = ordered[np.arange(len(codes)), np.maximum(active - 1, 0)]
    kept = (codes >= lowest[:, None]) & (active > 0)[:, None]
    return np.where(kept, codes, 0).astype(np.float32)


def untrained_head(encoder: Encoder) -> UntrainedHead | None:
    """The control of an encoder; None for a bundle, whose graphs hold no tower without its head,
    and for a model without a ReLU, which has no concepts."""
    if not isinstance(encoder, CheckpointEncoder) or not encoder.model.config.relu:
        return None
    return UntrainedHead(encoder)
