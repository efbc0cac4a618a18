"""Ways to turn dense embeddings into sparse codes: the contract in base.py, one file for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundle.plugins import Plugin, Plugins

if TYPE_CHECKING:
    from training.sparsify.heads.base import CodeHead

HEADS: Plugins[CodeHead] = Plugins(
    "head",
    {
        "contrastive": Plugin("training.sparsify.heads.contrastive:ContrastiveHead", "train"),
        "distill": Plugin("training.sparsify.heads.distill:DistillHead", "train"),
        "topk_sae": Plugin("training.sparsify.heads.topk_sae:TopKHead", "train"),
        "batch_topk_sae": Plugin("training.sparsify.heads.batch_topk_sae:BatchTopKHead", "train"),
        "matryoshka_sae": Plugin("training.sparsify.heads.matryoshka_sae:MatryoshkaHead", "train"),
        "splice": Plugin("training.sparsify.heads.splice:SpliceHead", "train"),
    },
)
