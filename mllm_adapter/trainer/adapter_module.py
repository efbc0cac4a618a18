"""Projector and LLM as one trainable module, and the optimizers of a stage.

B rows, T tokens, I images, G1 visual tokens of an image, H LLM width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mllm_adapter.adapter_recipe import StageConfig
from mllm_adapter.model.projector import PatchCodes, Projector
from mllm_adapter.trainer.batches import ConversationBatch
from mllm_adapter.trainer.conversations import IGNORED
from training.core.optimizer import build_optimizer

LORA_TARGETS = [
    *("q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj"),
    *("gate_proj", "up_proj", "gate_up_proj", "down_proj"),
]
"""The matrices of a layer that LoRA adapts. Phi-3 has some of them as one."""


class AdapterModel(nn.Module):
    """What a stage trains: always the projector, and of the LLM nothing, LoRA matrices, or all.

    Its state dict holds only the weights that learn, so the checkpoint of a stage that trains the
    projector alone does not carry an LLM.
    """

    def __init__(self, projector: Projector, llm: Any, stage: StageConfig, lora_rank: int) -> None:
        super().__init__()
        self.projector = projector
        if stage.llm == "lora":
            from peft import LoraConfig, get_peft_model

            lora = LoraConfig(r=lora_rank, lora_alpha=2 * lora_rank, target_modules=LORA_TARGETS)
            llm = get_peft_model(llm, lora)
        else:
            llm.requires_grad_(stage.llm == "full")
        self.llm = llm

    def forward(self, batch: ConversationBatch) -> Float[Tensor, ""]:
        """The cross entropy of the answers' tokens, summed over the batch."""
        codes, text = batch
        inputs = self.llm.get_input_embeddings()(text.ids)
        if len(codes.indices):  # conversations may be about text alone
            inputs = text.embedded(inputs, self._visual_tokens(codes))
        # Token t predicts token t + 1. The output layer, which is H x V, runs only where the next
        # token is learned: a few positions of the answers out of B x T.
        learned = text.labels[:, 1:] != IGNORED
        hidden = self.decoder(inputs_embeds=inputs, attention_mask=text.mask, use_cache=False)
        logits = self.llm.get_output_embeddings()(hidden.last_hidden_state[:, :-1][learned])
        return F.cross_entropy(logits.float(), text.labels[:, 1:][learned], reduction="sum")

    def _visual_tokens(self, codes: PatchCodes) -> Float[Tensor, "I G1 H"]:
        projector = self.projector
        if projector.pool is None:
            return projector.tokens(projector.sums(codes))
        tokens: Tensor = projector(codes.dense(projector.concepts))
        return tokens

    @property
    def decoder(self) -> Any:
        """The LLM without its output layer."""
        llm = self.llm
        return llm.get_base_model().model if hasattr(llm, "get_base_model") else llm.model

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """The weights that learn, by name."""
        return {n: p.detach() for n, p in self.named_parameters() if p.requires_grad}

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Copies weights into the parameters of the same names.

        Weights of an earlier stage may be fewer than the parameters that learn now. Raises
        AttributeError for a name that this model does not have.
        """
        with torch.no_grad():
            for name, value in state_dict.items():
                self.get_parameter(name).copy_(value)


def build_optimizers(model: AdapterModel, stage: StageConfig) -> list[torch.optim.Optimizer]:
    """The optimizers of a stage: AdamW, and with `stage.muon` Muon for the dense matrices.

    Every parameter that learns belongs to one of them. Each parameter group has an `lr_scale`, by
    which the learning rate is multiplied.

    Muon (K. Jordan 2024; scaled to AdamW's step size as in arXiv 2502.16982, section 2.2)
    orthogonalizes a matrix's momentum: directions that few samples need are then learned as fast as
    common ones. Embeddings and the projector's rows are sparse, so they stay with AdamW.
    """
    matrices = {
        name: parameter
        for name, parameter in model.named_parameters()
        if stage.muon and parameter.requires_grad and parameter.ndim == 2 and _is_dense(name)
    }
    adamw = build_optimizer(model, stage.optimizer, without=matrices)
    if not matrices:
        return [adamw]
    group = {"params": list(matrices.values()), "lr_scale": 1.0}
    muon = torch.optim.Muon(
        [group], weight_decay=stage.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return [adamw, muon]


def _is_dense(name: str) -> bool:
    """Whether every sample reaches all rows of a parameter: the LLM's layers, and the projector's
    second one."""
    return ".layers." in name or name == "projector.out.weight"
