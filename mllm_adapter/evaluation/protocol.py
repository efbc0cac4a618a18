"""The paper's steering test on held-out images, and its controls. N images, C concepts.

Sparse CLIP, arXiv 2601.20075, section 5: of each image the true label's top-K text concepts are
set to 0 and a random other label's top-K to a fixed strength SS. It is asked of images that the
adapter names right without any edit.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mllm_adapter.data.code_cache import CodeTable
from mllm_adapter.data.instructions import IS_IT_QUESTIONS, NAME_QUESTIONS, with_article
from mllm_adapter.evaluation.answerer import Answerer, GeneratedAnswer, HiddenStateShift
from mllm_adapter.evaluation.scores import words
from mllm_adapter.model.projector import PatchCodes
from mllm_adapter.steering.phrases import WordEdit, expand
from mllm_adapter.steering.plan import SteeringEdit, SteeringPlan
from mllm_adapter.steering.text_codes import SUPPRESSED_CONCEPTS, TextCodes

QUESTION = NAME_QUESTIONS[0]


def is_it(label: str) -> str:
    """The question whether an image is of a label."""
    return IS_IT_QUESTIONS[0].format(with_article(label))


def yes_or_no(answers: Sequence[GeneratedAnswer]) -> list[GeneratedAnswer]:
    """Answers up to their first comma: `no` of `no, it is a dog`."""
    return [GeneratedAnswer(answer.text.partition(",")[0], answer.ended) for answer in answers]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One image that is named right, and what it is to become."""

    image: int
    old: str
    new: str

    @property
    def difference(self) -> tuple[str, str]:
        """The words that only the old label has, and those that only the new one has."""
        old, new = self.old.split(), self.new.split()
        return (
            " ".join(word for word in old if word not in new),
            " ".join(word for word in new if word not in old),
        )


def swaps(
    meta: Sequence[Mapping[str, Any]],
    right: Sequence[int],
    labels: Sequence[str],
    most: int,
    seed: int = 0,
) -> list[Trial]:
    """Images that are named right, each with another one of the labels, of no common word."""
    rng = random.Random(seed)
    chosen = sorted(rng.sample(list(right), min(most, len(right))))
    trials = []
    for image in chosen:
        old = meta[image]["caption"]
        new = rng.choice([label for label in labels if not words(label) & words(old)])
        trials.append(Trial(image=image, old=old, new=new))
    return trials


def parts(
    meta: Sequence[Mapping[str, Any]],
    right: Sequence[int],
    labels: Sequence[str],
    most: int,
    seed: int = 0,
) -> list[Trial]:
    """The same with a label that shares a word and has as many others: `woman cook` to `woman
    singer`. Only the other words are edited."""
    rng = random.Random(seed)
    trials: list[Trial] = []
    for image in rng.sample(list(right), len(right)):
        old = meta[image]["caption"]
        fits = [
            label
            for label in labels
            if words(label) & words(old)
            and len(words(label) - words(old)) == len(words(old) - words(label)) > 0
        ]
        if fits and len(trials) < most:
            trials.append(Trial(image=image, old=old, new=rng.choice(fits)))
    return sorted(trials, key=lambda trial: trial.image)


class SteeringBench:
    """Trials of one split, asked under one condition after another."""

    def __init__(
        self, answerer: Answerer, table: CodeTable, labels: TextCodes, trials: Sequence[Trial]
    ) -> None:
        self.answerer, self.labels, self.trials = answerer, labels, trials
        self.codes = table.codes([trial.image for trial in trials])

    def steered(self, top: int, strength: float, even: bool = False) -> list[GeneratedAnswer]:
        """The old label's concepts to 0, the new one's to a strength, or each of them to it."""
        return self._planned(
            [self.labels.swap(t.old, t.new, top, strength, even=even) for t in self.trials]
        )

    def steered_and_asked(
        self, top: int, strength: float, about: Sequence[str]
    ) -> list[GeneratedAnswer]:
        """The same edit, and the question whether the image is some label."""
        plans = [self.labels.swap(t.old, t.new, top, strength) for t in self.trials]
        return self.answerer(self.codes, [is_it(label) for label in about], plans)

    def part_steered(self, top: int, strength: float) -> list[GeneratedAnswer]:
        """The same for the words only in which the labels differ."""
        plans = [self.labels.swap(*trial.difference, top, strength) for trial in self.trials]
        return self._planned(plans)

    def random_concepts(
        self, top: int, strength: float, frequency: Sequence[float], seed: int = 0
    ) -> list[GeneratedAnswer]:
        """Control: for each concept of the new label another one that fires as often."""
        rng = random.Random(seed)
        order = np.argsort(np.asarray(frequency), kind="stable")
        rank = np.argsort(order, kind="stable")
        plans = []
        for trial in self.trials:
            word = WordEdit(word=trial.new, op="SET", value=strength, top=top)
            meant = [edit.concept for edit in expand([word], self.labels.encode)]
            old = WordEdit(word=trial.old, op="ABLATE", top=SUPPRESSED_CONCEPTS)
            edits = {edit.concept: edit for edit in expand([old], self.labels.encode)}
            for concept in meant:
                near = int(rank[concept]) + rng.choice([-1, 1]) * rng.randint(1, 50)
                other = int(order[min(max(near, 0), len(order) - 1)])
                edits[other] = SteeringEdit(concept=other, op="SET", value=strength)
            plans.append(SteeringPlan(edits=tuple(edits.values())))
        return self._planned(plans)

    def told(self) -> list[GeneratedAnswer]:
        """Control: no edit, the question says what to answer."""
        questions = [f"Say it is {trial.new}. {QUESTION}" for trial in self.trials]
        return self.answerer(self.codes, questions)

    def mean_difference(
        self, means: Mapping[str, torch.Tensor], strength: float
    ) -> list[GeneratedAnswer]:
        """Control: the mean codes (C,) of training images of the new label, less those of the old
        one, added to every patch (difference of means, arXiv 2310.06824)."""
        dense = self.codes.dense(self.answerer.adapter.config.concepts)
        shift = torch.stack([means[t.new] - means[t.old] for t in self.trials])
        shifted = (dense + strength * shift[:, None, :]).clamp(min=0)
        return self.answerer(PatchCodes.from_dense(shifted), [QUESTION] * len(self.trials))

    def hidden_difference(
        self, means: Mapping[str, torch.Tensor], layer: int, strength: float
    ) -> list[GeneratedAnswer]:
        """Control: the same with the LLM's hidden states (H,) behind a layer, added at every token
        of the answer, as tools do that steer a text model."""
        by = strength * torch.stack([means[t.new] - means[t.old] for t in self.trials])
        questions = [QUESTION] * len(self.trials)
        return self.answerer(self.codes, questions, shift=HiddenStateShift(layer, by))

    def _planned(self, plans: Sequence[SteeringPlan]) -> list[GeneratedAnswer]:
        return self.answerer(self.codes, [QUESTION] * len(self.trials), plans)


def mean_codes(
    meta: Sequence[Mapping[str, Any]], table: CodeTable, labels: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Mean codes (C,) over patches and images of each label that a split has."""
    return {
        label: table.codes(images).dense(table.concepts).mean((0, 1))
        for label, images in _images_of(meta, labels).items()
    }


def mean_states(
    meta: Sequence[Mapping[str, Any]],
    table: CodeTable,
    labels: Sequence[str],
    answerer: Answerer,
    layer: int,
) -> dict[str, torch.Tensor]:
    """Mean hidden states (H,) of each label's images where the answer begins."""
    return {
        label: answerer.states(table.codes(images), QUESTION, layer).mean(0)
        for label, images in _images_of(meta, labels).items()
    }


def _images_of(meta: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    wanted = set(labels)
    for i, m in enumerate(meta):
        if m["caption"] in wanted:
            rows.setdefault(m["caption"], []).append(i)
    return rows
