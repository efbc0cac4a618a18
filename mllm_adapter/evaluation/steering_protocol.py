"""The paper's steering test on held-out images, and its controls. C concepts, H LLM width.

Sparse CLIP, arXiv 2601.20075, section 5: for each image, the true label's top-K text concepts are
set to 0 and the top-K concepts of another label, drawn at random, to a fixed strength SS. Only
images that the adapter names right without an edit take part.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mllm_adapter.data.code_tables import CodeTable
from mllm_adapter.data.instructions import IS_IT_QUESTIONS, NAME_QUESTIONS, with_article
from mllm_adapter.evaluation.answerer import Answerer, GeneratedAnswer, HiddenStateShift
from mllm_adapter.evaluation.scores import words
from mllm_adapter.model.projector import PatchCodes
from mllm_adapter.steering.phrases import WordEdit, expand
from mllm_adapter.steering.plan import SteeringEdit, SteeringPlan
from mllm_adapter.steering.text_to_concepts import SUPPRESSED_CONCEPTS, TextCodes

NAME_QUESTION = NAME_QUESTIONS[0]

MAX_RANK_DISTANCE = 50
"""A random control concept is at most this many ranks of firing frequency away."""


def is_it_question(label: str) -> str:
    """The question whether an image shows a label."""
    return IS_IT_QUESTIONS[0].format(with_article(label))


def yes_or_no(answers: Sequence[GeneratedAnswer]) -> list[GeneratedAnswer]:
    """Cuts answers at their first comma: `no` from `no, it is a dog`."""
    return [GeneratedAnswer(answer.text.partition(",")[0], answer.ended) for answer in answers]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """An image that is named right, and the label that it is steered to."""

    image: int
    old: str
    new: str

    @property
    def difference(self) -> tuple[str, str]:
        """The words that only the old label has, and the words that only the new one has."""
        old, new = self.old.split(), self.new.split()
        return (
            " ".join(word for word in old if word not in new),
            " ".join(word for word in new if word not in old),
        )


def whole_label_trials(
    meta: Sequence[Mapping[str, Any]],
    correct: Sequence[int],
    labels: Sequence[str],
    limit: int,
    seed: int = 0,
) -> list[Trial]:
    """Draws up to `limit` of the `correct` images, each with a label that shares no word with its
    own. An image without such a label is left out."""
    rng = random.Random(seed)
    trials = []
    for image in sorted(rng.sample(list(correct), min(limit, len(correct)))):
        old = meta[image]["caption"]
        if others := [label for label in labels if not words(label) & words(old)]:
            trials.append(Trial(image=image, old=old, new=rng.choice(others)))
    return trials


def partial_label_trials(
    meta: Sequence[Mapping[str, Any]],
    correct: Sequence[int],
    labels: Sequence[str],
    limit: int,
    seed: int = 0,
) -> list[Trial]:
    """Draws up to `limit` of the `correct` images, each with a label that shares a word with its
    own and has equally many others: `woman cook` to `woman singer`."""
    rng = random.Random(seed)
    trials: list[Trial] = []
    for image in rng.sample(list(correct), len(correct)):
        old = meta[image]["caption"]
        candidates = [
            label
            for label in labels
            if words(label) & words(old)
            and len(words(label) - words(old)) == len(words(old) - words(label)) > 0
        ]
        if candidates and len(trials) < limit:
            trials.append(Trial(image=image, old=old, new=rng.choice(candidates)))
    return sorted(trials, key=lambda trial: trial.image)


class SteeringTest:
    """Trials of one split. Each method answers all of them under one condition."""

    def __init__(
        self,
        answerer: Answerer,
        table: CodeTable,
        text_codes: TextCodes,
        trials: Sequence[Trial],
    ) -> None:
        self.answerer, self.text_codes, self.trials = answerer, text_codes, trials
        self.codes = table.codes([trial.image for trial in trials])

    def steered(self, top: int, strength: float, even: bool = False) -> list[GeneratedAnswer]:
        """Sets the old label's concepts to 0 and the new one's to `strength`: the strongest of them
        and the others in proportion, or with `even` all alike."""
        swap = self.text_codes.swap
        return self._named([swap(t.old, t.new, top, strength, even=even) for t in self.trials])

    def steered_and_asked(
        self, top: int, strength: float, labels: Sequence[str]
    ) -> list[GeneratedAnswer]:
        """Applies the same edit and asks whether each image shows one of `labels`."""
        plans = [self.text_codes.swap(t.old, t.new, top, strength) for t in self.trials]
        return self.answerer(self.codes, [is_it_question(label) for label in labels], plans)

    def part_steered(self, top: int, strength: float) -> list[GeneratedAnswer]:
        """Applies the same edit to only the words in which the labels differ."""
        return self._named(
            [self.text_codes.swap(*trial.difference, top, strength) for trial in self.trials]
        )

    def random_concepts(
        self, top: int, strength: float, frequency: Sequence[float], seed: int = 0
    ) -> list[GeneratedAnswer]:
        """Control: replaces each concept of the new label by another that fires about as often."""
        rng = random.Random(seed)
        order = np.argsort(np.asarray(frequency), kind="stable")
        rank = np.argsort(order, kind="stable")
        plans = []
        for trial in self.trials:
            set_new = WordEdit(word=trial.new, op="SET", value=strength, top=top)
            new = [edit.concept for edit in expand([set_new], self.text_codes.encode)]
            ablate_old = WordEdit(word=trial.old, op="ABLATE", top=SUPPRESSED_CONCEPTS)
            edits = {e.concept: e for e in expand([ablate_old], self.text_codes.encode)}
            for concept in new:
                distance = rng.choice([-1, 1]) * rng.randint(1, MAX_RANK_DISTANCE)
                other = int(order[min(max(int(rank[concept]) + distance, 0), len(order) - 1)])
                edits[other] = SteeringEdit(concept=other, op="SET", value=strength)
            plans.append(SteeringPlan(edits=tuple(edits.values())))
        return self._named(plans)

    def answer_in_question(self) -> list[GeneratedAnswer]:
        """Control: edits nothing and says in the question what to answer."""
        questions = [f"Say it is {trial.new}. {NAME_QUESTION}" for trial in self.trials]
        return self.answerer(self.codes, questions)

    def mean_difference(
        self, means: Mapping[str, torch.Tensor], factor: float
    ) -> list[GeneratedAnswer]:
        """Control: adds to every patch `factor` times the difference of two labels' mean codes
        (C,), new minus old (difference of means, arXiv 2310.06824)."""
        dense = self.codes.dense(self.answerer.adapter.config.concepts)
        shift = torch.stack([means[t.new] - means[t.old] for t in self.trials])
        shifted = (dense + factor * shift[:, None, :]).clamp(min=0)
        return self.answerer(PatchCodes.from_dense(shifted), [NAME_QUESTION] * len(self.trials))

    def hidden_difference(
        self, means: Mapping[str, torch.Tensor], layer: int, factor: float
    ) -> list[GeneratedAnswer]:
        """Control: adds to a layer's output, at every token of the answer, `factor` times the
        difference of two labels' mean hidden states (H,). Tools that steer text models do this."""
        vectors = factor * torch.stack([means[t.new] - means[t.old] for t in self.trials])
        questions = [NAME_QUESTION] * len(self.trials)
        return self.answerer(self.codes, questions, shift=HiddenStateShift(layer, vectors))

    def _named(self, plans: Sequence[SteeringPlan]) -> list[GeneratedAnswer]:
        """Asks for the images' names, each after its plan."""
        return self.answerer(self.codes, [NAME_QUESTION] * len(self.trials), plans)


def mean_codes(
    meta: Sequence[Mapping[str, Any]], table: CodeTable, labels: Sequence[str]
) -> dict[str, torch.Tensor]:
    """For each label of a split, the mean codes (C,) over its images and their patches."""
    return {
        label: table.means(images).to_dense().mean(0)
        for label, images in _images_by_label(meta, labels).items()
    }


def mean_hidden_states(
    meta: Sequence[Mapping[str, Any]],
    table: CodeTable,
    labels: Sequence[str],
    answerer: Answerer,
    layer: int,
) -> dict[str, torch.Tensor]:
    """For each label of a split, a layer's mean output (H,) where the answer about one of its
    images begins."""
    return {
        label: answerer.hidden_states(table.codes(images), NAME_QUESTION, layer).mean(0)
        for label, images in _images_by_label(meta, labels).items()
    }


def _images_by_label(
    meta: Sequence[Mapping[str, Any]], labels: Sequence[str]
) -> dict[str, list[int]]:
    images: dict[str, list[int]] = {}
    selected = set(labels)
    for i, m in enumerate(meta):
        if m["caption"] in selected:
            images.setdefault(m["caption"], []).append(i)
    return images
