"""CLIP's loss on the codes of frozen towers. B batch, C concepts."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from training.losses.clip import tiled_clip_loss
from training.model.sparse_clip import normalize
from training.sparsify.embeddings.head_data import HeadBatch, HeadData
from training.sparsify.heads._paired_head import PairedHead


class ContrastiveHead(PairedHead):
    """Learns from pairs of images and captions, as Sparse CLIP does (arXiv 2601.20075)."""

    mixing: ClassVar[float] = 2.0

    def learn(self, data: HeadData) -> None:
        """Half of the concepts begin as texts and half as images: their directions from the mean of
        their tower. Texts say what is told apart, images where images lie. Where there are too few
        of the one, there are more of the other, and random directions at last."""
        images, texts = (rows[torch.randperm(len(rows))] - rows.mean(0) for rows in data.sample)
        concepts = len(self.image.bias)
        half, rest = concepts // 2, concepts - concepts // 2
        random = torch.randn_like(self.image.weight)
        directions = [texts[:half], images[:rest], texts[half:], images[rest:], random]
        self.point(F.normalize(torch.cat(directions)[:concepts]), data)

    def loss(self, batch: HeadBatch) -> Float[Tensor, ""]:
        """See CodeHead. Equal captions of a batch are not each other's negatives."""
        images = normalize(self.codes(batch.images, "image"))
        texts = normalize(self.codes(batch.texts, "text"))
        return tiled_clip_loss(images, texts, self.log_scale.exp(), batch.captions)
