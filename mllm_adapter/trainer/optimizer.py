"""What updates an adapter's weights: AdamW, and Muon for the matrices between dense layers.

Muon (K. Jordan 2024; scaled to AdamW's step as in arXiv 2502.16982, section 2.2) orthogonalises a
matrix's momentum, so that directions that few samples need are learned as fast as the common ones.
"""

from __future__ import annotations

import torch

from mllm_adapter.recipe import StageConfig
from mllm_adapter.trainer.adapter_module import AdapterModel
from training.core.optimizer import build_optimizer


def build_optimizers(model: AdapterModel, stage: StageConfig) -> list[torch.optim.Optimizer]:
    """The optimisers of a stage; each parameter that learns is one's. Their groups have a `share`
    of the learning rate."""
    dense = {
        name: parameter
        for name, parameter in model.named_parameters()
        if stage.muon and parameter.requires_grad and parameter.ndim == 2 and _dense(name)
    }
    adamw = build_optimizer(model, stage.optimizer, without=dense)
    if not dense:
        return [adamw]
    group = {"params": list(dense.values()), "share": 1.0}
    muon = torch.optim.Muon(
        [group], weight_decay=stage.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return [adamw, muon]


def _dense(name: str) -> bool:
    return ".layers." in name or name == "projector.out.weight"
