"""CLIP's loss on the codes of frozen towers. B batch, C concepts."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from training.losses.clip import tiled_clip_loss
from training.model.sparse_clip import normalize
from training.sparsify.embeddings.head_data import HeadBatch
from training.sparsify.heads._paired_head import PairedHead


class ContrastiveHead(PairedHead):
    """Learns from pairs of images and captions, as Sparse CLIP does (arXiv 2601.20075)."""

    lr: ClassVar[float] = 2e-3
    mixing: ClassVar[float] = 2.0

    def loss(self, batch: HeadBatch) -> Float[Tensor, ""]:
        """See CodeHead. Equal captions of a batch are not each other's negatives."""
        images = normalize(self.codes(batch.images, "image"))
        texts = normalize(self.codes(batch.texts, "text"))
        return tiled_clip_loss(images, texts, self.log_scale.exp(), batch.captions)
