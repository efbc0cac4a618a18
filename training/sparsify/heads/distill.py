"""The similarities of the dense model as soft targets. B images, M texts, C concepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from training.model.sparse_clip import normalize
from training.sparsify.embeddings.head_data import HeadBatch
from training.sparsify.heads._paired_head import PairedHead
from training.sparsify.heads.base import TowerSide


class DistillHead(PairedHead):
    """Learns without captions: between images and the texts of a vocabulary, the softmax of the
    codes' scaled cosines follows the dense model's, over texts and over images (the affinity
    mimicking of TinyCLIP, arXiv 2309.12314, section 3.1).

    Directions begin at random and codes jump: then their cosines follow the dense model's from the
    first step. Directions of data crowd where data are, and distort the rest.
    """

    needs_captions: ClassVar[bool] = False
    mixing: ClassVar[float] = 1.0
    margins: ClassVar[Mapping[TowerSide, float]] = {"image": 0.87, "text": 0.8}
    jumps: ClassVar[bool] = True

    def loss(self, batch: HeadBatch) -> Float[Tensor, ""]:
        """See CodeHead: the mean of both cross entropies, less the least that they can be."""
        images = normalize(self.codes(batch.images, "image"))
        texts = normalize(self.codes(batch.texts, "text"))
        student = self.log_scale.exp() * images @ texts.T
        teacher = self.recipe.teacher_scale * batch.images @ batch.texts.T
        over_texts = F.kl_div(
            student.log_softmax(1), teacher.log_softmax(1), reduction="batchmean", log_target=True
        )
        over_images = F.kl_div(
            student.log_softmax(0).T,
            teacher.log_softmax(0).T,
            reduction="batchmean",
            log_target=True,
        )
        return (over_texts + over_images) / 2
