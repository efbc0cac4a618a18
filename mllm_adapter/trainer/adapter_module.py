"""Projector and LLM as one trainable module. B rows, T tokens, P patches, H LLM width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mllm_adapter.model.projector import Projector
from mllm_adapter.recipe import StageConfig
from mllm_adapter.trainer.batches import ConversationBatch
from mllm_adapter.trainer.conversations import IGNORED


class AdapterModel(nn.Module):
    """What a stage trains: always the projector, and of the LLM nothing, LoRA's matrices, or all.

    Its state dict holds what learns and nothing else, so that a checkpoint of a projector does not
    carry an LLM.
    """

    def __init__(self, projector: Projector, llm: Any, stage: StageConfig, lora_rank: int) -> None:
        super().__init__()
        self.projector = projector
        if stage.llm == "lora":
            from peft import LoraConfig, get_peft_model

            modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
            lora = LoraConfig(r=lora_rank, lora_alpha=2 * lora_rank, target_modules=modules)
            llm = get_peft_model(llm, lora)
        else:
            llm.requires_grad_(stage.llm == "full")
        self.llm = llm

    def forward(self, batch: ConversationBatch) -> Float[Tensor, ""]:
        """The cross entropy of the answers' tokens, summed."""
        projector, (codes, text) = self.projector, batch
        visual = projector.tokens(projector.sums(codes))
        inputs = text.embedded(self.llm.get_input_embeddings()(text.ids), visual)
        learned = text.labels[:, 1:] != IGNORED
        hidden = self.decoder(inputs_embeds=inputs, attention_mask=text.mask)
        logits = self.llm.get_output_embeddings()(hidden.last_hidden_state[:, :-1][learned])
        return F.cross_entropy(logits.float(), text.labels[:, 1:][learned], reduction="sum")

    @property
    def decoder(self) -> Any:
        """The LLM without its output layer, which only the learned places need."""
        llm = self.llm
        return llm.get_base_model().model if hasattr(llm, "get_base_model") else llm.model

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """Weights that learn, by name."""
        return {n: p.detach() for n, p in self.named_parameters() if p.requires_grad}

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Copies weights into place; those of an earlier stage may be fewer than what learns now.

        Raises KeyError for one that this model does not have.
        """
        with torch.no_grad():
            for name, value in state_dict.items():
                self.get_parameter(name).copy_(value)
