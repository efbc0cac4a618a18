"""Greedy answers of an adapter to many pictures at once. B pictures, P patches, H LLM width."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mllm_adapter.adapter import open_adapter
from mllm_adapter.llm import end_tokens, load_llm
from mllm_adapter.projector import PatchCodes
from mllm_adapter.prompt import Message, Prompt, PromptBuilder
from mllm_adapter.steering import SteeringBatch, SteeringPlan

BATCH = 64


class Answer(NamedTuple):
    """What the LLM said."""

    text: str
    ended: bool
    """By itself, not because it was cut."""


class Answerer:
    """An adapter and its LLM, for evaluation."""

    def __init__(self, folder: Path, max_tokens: int = 24, device: str = "cpu") -> None:
        self.adapter = open_adapter(folder)
        self.max_tokens = max_tokens
        self._llm, self._tokenizer = load_llm(self.adapter.llm)
        self._llm.to(device)
        self.adapter.projector.to(device)
        self._end = end_tokens(self.adapter.llm, self._tokenizer)
        self._build = PromptBuilder(
            self._tokenizer, self.adapter.config.visual_tokens, self.adapter.config.system
        )

    @torch.inference_mode()
    def __call__(
        self,
        codes: PatchCodes,
        questions: Sequence[str],
        plans: Sequence[SteeringPlan | None] | None = None,
    ) -> list[Answer]:
        """One answer a picture, each to a question of its own and after its own edits."""
        asked = [Message(role="user", text=question, images=1) for question in questions]
        prompts = [self._build([message]) for message in asked]
        answers: list[Answer] = [Answer("", False)] * len(questions)
        # Prompts of one length share a batch, so that nothing is padded.
        by_length: dict[int, list[int]] = {}
        for i, prompt in enumerate(prompts):
            by_length.setdefault(len(prompt.ids), []).append(i)
        for rows in by_length.values():
            for start in range(0, len(rows), BATCH):
                chosen = rows[start : start + BATCH]
                part = PatchCodes(codes.indices[chosen], codes.values[chosen])
                its = [plans[i] for i in chosen] if plans is not None else [None] * len(chosen)
                visual = self.visual(part, its)
                found = self._generate([prompts[i] for i in chosen], visual)
                for i, answer in zip(chosen, found, strict=True):
                    answers[i] = answer
        return answers

    def visual(self, codes: PatchCodes, plans: Sequence[SteeringPlan | None]) -> Tensor:
        """Visual tokens (B, 1 + P, H)."""
        projector = self.adapter.projector
        edits = SteeringBatch.of(plans, self.adapter.config.patches)
        return projector.tokens(projector.steered(projector.sums(codes), codes, edits))

    def _generate(self, prompts: Sequence[Prompt], visual: Tensor) -> list[Answer]:
        ids = torch.tensor([prompt.ids for prompt in prompts])
        inputs = self._llm.get_input_embeddings()(ids)
        for row, prompt in enumerate(prompts):
            [place] = prompt.places
            inputs[row, place : place + visual.shape[1]] = visual[row]
        found = self._llm.generate(
            inputs_embeds=inputs,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=self.max_tokens,
            do_sample=False,
            eos_token_id=self._end,
            pad_token_id=self._end[0],
        )
        ended = [any(token in self._end for token in row) for row in found.tolist()]
        texts = self._tokenizer.batch_decode(found, skip_special_tokens=True)
        return [Answer(text.strip(), end) for text, end in zip(texts, ended, strict=True)]
