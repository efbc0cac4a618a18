"""Greedy answers of an adapter about many images. B images, T tokens, P patches, H LLM width."""

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
"""Images per forward pass of the LLM."""


class GeneratedAnswer(NamedTuple):
    """The LLM's answer about one image."""

    text: str
    ended: bool
    """Whether it ended with an end token and was not cut at `max_tokens`."""


class HiddenStateShift(NamedTuple):
    """A vector per image that is added to a layer's output at every token of the answer."""

    layer: int
    vectors: Float[Tensor, "B H"]


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
        """Answers one question per image, after that image's plan."""
        prompts = [
            self._build([PromptMessage(role="user", text=question, images=1)])
            for question in questions
        ]
        answers = [GeneratedAnswer("", False)] * len(questions)
        for rows in _equal_length_batches(prompts):
            part = PatchCodes(codes.indices[rows], codes.values[rows])
            part_plans = [plans[i] for i in rows] if plans is not None else [None] * len(rows)
            inputs = self._inputs([prompts[i] for i in rows], self.visual_tokens(part, part_plans))
            with self._shifted(shift, rows):
                generated = self._generate(inputs)
            for i, answer in zip(rows, generated, strict=True):
                answers[i] = answer
        return answers

    @property
    def layers(self) -> int:
        """The number of the LLM's layers."""
        return len(self._llm.model.layers)

    @torch.inference_mode()
    def hidden_states(self, codes: PatchCodes, question: str, layer: int) -> Float[Tensor, "B H"]:
        """A layer's output at the last token of the prompt, where the answer begins."""
        prompt = self._build([PromptMessage(role="user", text=question, images=1)])
        states = []
        for start in range(0, len(codes.indices), BATCH_SIZE):
            part = PatchCodes(*(x[start : start + BATCH_SIZE] for x in codes))
            plans = [None] * len(part.indices)
            inputs = self._inputs([prompt] * len(plans), self.visual_tokens(part, plans))
            output = self._llm(inputs_embeds=inputs, output_hidden_states=True)
            # hidden_states[0] are the embeddings; hidden_states[i + 1] is the output of layer i.
            states.append(output.hidden_states[layer + 1][:, -1])
        return torch.cat(states)

    @contextmanager
    def _shifted(self, shift: HiddenStateShift | None, rows: Sequence[int]) -> Iterator[None]:
        """Inside the block, the LLM runs with a shift; `rows` are the batch's images."""
        if shift is None:
            yield
            return
        vectors = shift.vectors[list(rows), None]  # (B, 1, H)

        def add(module: Any, inputs: Any, output: Any) -> Any:
            # The last position is the end of the prompt in the first pass, and the newest token of
            # the answer in every later one.
            states = output[0] if isinstance(output, tuple) else output
            states[:, -1:] += vectors
            return output

        hook = self._llm.model.layers[shift.layer].register_forward_hook(add)
        try:
            yield
        finally:
            hook.remove()

    def visual_tokens(
        self, codes: PatchCodes, plans: Sequence[SteeringPlan | None]
    ) -> Float[Tensor, "B P1 H"]:
        """Visual tokens of images after their plans, P1 = 1 + P."""
        projector = self.adapter.projector
        batch = SteeringBatch.from_plans(plans, self.adapter.config.patches)
        return projector.tokens(projector.steered(projector.sums(codes), codes, batch))

    def _inputs(
        self, prompts: Sequence[Prompt], visual: Float[Tensor, "B P1 H"]
    ) -> Float[Tensor, "B T H"]:
        """Embeds prompts of one length, each with its image's visual tokens."""
        ids = torch.tensor([prompt.ids for prompt in prompts])
        inputs: Tensor = self._llm.get_input_embeddings()(ids)
        for row, prompt in enumerate(prompts):
            [position] = prompt.image_positions
            inputs[row, position : position + visual.shape[1]] = visual[row]
        return inputs

    def _generate(self, inputs: Float[Tensor, "B T H"]) -> list[GeneratedAnswer]:
        tokens = self._llm.generate(
            inputs_embeds=inputs,
            attention_mask=torch.ones(inputs.shape[:2], dtype=torch.int64),
            max_new_tokens=self.max_tokens,
            do_sample=False,
            eos_token_id=self._end,
            pad_token_id=self._end[0],
        )
        ended = [any(token in self._end for token in row) for row in tokens.tolist()]
        texts = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [GeneratedAnswer(text.strip(), end) for text, end in zip(texts, ended, strict=True)]


def _equal_length_batches(prompts: Sequence[Prompt]) -> Iterator[list[int]]:
    """Groups the indices of prompts of one length into batches, so that nothing is padded."""
    by_length: dict[int, list[int]] = {}
    for i, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt.ids), []).append(i)
    for rows in by_length.values():
        yield from (rows[start : start + BATCH_SIZE] for start in range(0, len(rows), BATCH_SIZE))
