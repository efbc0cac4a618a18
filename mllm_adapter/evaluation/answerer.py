"""Greedy answers of an adapter to many images at once. B images, P patches, H LLM width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mllm_adapter.model.adapter import open_adapter
from mllm_adapter.model.llm import end_tokens, load_llm
from mllm_adapter.model.projector import PatchCodes
from mllm_adapter.model.prompt import Prompt, PromptBuilder, PromptMessage
from mllm_adapter.steering.plan import SteeringBatch, SteeringPlan

BATCH_SIZE = 64


class GeneratedAnswer(NamedTuple):
    """What the LLM said."""

    text: str
    ended: bool
    """By itself, not because it was cut."""


class HiddenStateShift(NamedTuple):
    """What is added to a layer's output, for each image, from where its answer begins."""

    layer: int
    by: Float[Tensor, "B H"]


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
        shift: HiddenStateShift | None = None,
    ) -> list[GeneratedAnswer]:
        """One answer an image, each to a question of its own and after its own edits."""
        asked = [PromptMessage(role="user", text=question, images=1) for question in questions]
        prompts = [self._build([message]) for message in asked]
        answers: list[GeneratedAnswer] = [GeneratedAnswer("", False)] * len(questions)
        for chosen in _of_one_length(prompts):
            part = PatchCodes(codes.indices[chosen], codes.values[chosen])
            its = [plans[i] for i in chosen] if plans is not None else [None] * len(chosen)
            inputs = self._inputs([prompts[i] for i in chosen], self.visual(part, its))
            with self._shifted(shift, chosen):
                found = self._generate(inputs)
            for i, answer in zip(chosen, found, strict=True):
                answers[i] = answer
        return answers

    @property
    def layers(self) -> int:
        """Of the LLM."""
        return len(self._llm.model.layers)

    @torch.inference_mode()
    def states(self, codes: PatchCodes, question: str, layer: int) -> Float[Tensor, "B H"]:
        """The output of a layer of the LLM where the answer to a question begins."""
        prompt = self._build([PromptMessage(role="user", text=question, images=1)])
        found = []
        for start in range(0, len(codes.indices), BATCH_SIZE):
            part = PatchCodes(*(x[start : start + BATCH_SIZE] for x in codes))
            plans = [None] * len(part.indices)
            inputs = self._inputs([prompt] * len(plans), self.visual(part, plans))
            hidden = self._llm(inputs_embeds=inputs, output_hidden_states=True).hidden_states
            found.append(hidden[layer + 1][:, -1])
        return torch.cat(found)

    @contextmanager
    def _shifted(self, shift: HiddenStateShift | None, rows: Sequence[int]) -> Iterator[None]:
        if shift is None:
            yield
            return
        by = shift.by[list(rows), None]

        def add(module: Any, inputs: Any, output: Any) -> Any:
            states = output[0] if isinstance(output, tuple) else output
            states[:, -1:] += by
            return output

        hook = self._llm.model.layers[shift.layer].register_forward_hook(add)
        try:
            yield
        finally:
            hook.remove()

    def visual(self, codes: PatchCodes, plans: Sequence[SteeringPlan | None]) -> Tensor:
        """Visual tokens (B, 1 + P, H)."""
        projector = self.adapter.projector
        edits = SteeringBatch.from_plans(plans, self.adapter.config.patches)
        return projector.tokens(projector.steered(projector.sums(codes), codes, edits))

    def _inputs(self, prompts: Sequence[Prompt], visual: Tensor) -> Float[Tensor, "B T H"]:
        ids = torch.tensor([prompt.ids for prompt in prompts])
        inputs: Tensor = self._llm.get_input_embeddings()(ids)
        for row, prompt in enumerate(prompts):
            [position] = prompt.image_positions
            inputs[row, position : position + visual.shape[1]] = visual[row]
        return inputs

    def _generate(self, inputs: Float[Tensor, "B T H"]) -> list[GeneratedAnswer]:
        found = self._llm.generate(
            inputs_embeds=inputs,
            attention_mask=torch.ones(inputs.shape[:2], dtype=torch.int64),
            max_new_tokens=self.max_tokens,
            do_sample=False,
            eos_token_id=self._end,
            pad_token_id=self._end[0],
        )
        ended = [any(token in self._end for token in row) for row in found.tolist()]
        texts = self._tokenizer.batch_decode(found, skip_special_tokens=True)
        return [GeneratedAnswer(text.strip(), end) for text, end in zip(texts, ended, strict=True)]


def _of_one_length(prompts: Sequence[Prompt]) -> Iterator[list[int]]:
    """Places of prompts that share a batch: of one length, so that nothing is padded."""
    by_length: dict[int, list[int]] = {}
    for i, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt.ids), []).append(i)
    for rows in by_length.values():
        yield from (rows[start : start + BATCH_SIZE] for start in range(0, len(rows), BATCH_SIZE))
