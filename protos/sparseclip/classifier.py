"""Zero-shot classification: cosines of images and labels as probabilities.

L labels, C concepts, D width of dense vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparseclip._arguments import instances
from sparseclip.errors import ItemStatus
from sparseclip.model_info import ModelInfo, ModelKind, ScoreKind
from sparseclip.results import (
    Coverage,
    Embedding,
    Embeddings,
    ModelVersion,
    stack_codes,
    stack_dense,
)

_TIE = 1e-9
"""Logits that differ by less are of labels that read the same: sums in another order differ so."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Classification:
    """The label of one image, and the probability of every label."""

    source: str
    status: ItemStatus
    model: ModelVersion | None
    label: str
    """The likeliest label; empty when the image failed or is `undecided`."""
    scores: Mapping[str, float]
    """Every label's probability, in the order of the labels. Those of the softmax sum to 1; those
    of the sigmoid need not, as each label has its own. A label on which no concept fires has 0.
    Empty where nothing is known."""
    undecided: str = ""
    """Why the image has no label though it was read: it or the labels have no concept, they share
    none, or two labels are equally likely."""
    coverage: Coverage = Coverage()
    """What the model read of the image."""
    label_coverage: Mapping[str, Coverage] = field(default_factory=dict)
    """What the text tower read of each label: `Classifier.coverage`."""
    score: ScoreKind = "softmax"
    """What the probabilities are."""

    @property
    def ok(self) -> bool:
        """The image was classified."""
        return self.status.ok


@dataclass(frozen=True, kw_only=True, eq=False)
class Classifier:
    """Labels that one model has embedded. `Client.classifier` makes one."""

    labels: tuple[str, ...]
    model: ModelVersion
    logit_scale: float
    """Logits are the cosine times this, plus `logit_bias`."""
    weights: NDArray[np.float64]
    """(C, L): a unit column for every label, or zeros where its texts fired no concept. (D, L) of a
    dense model."""
    coverage: Mapping[str, Coverage] = field(default_factory=dict)
    """What the text tower read of each label: of its longest text, with the unknown words of all
    its texts."""
    score_kind: ScoreKind = "softmax"
    """How logits become probabilities: `ModelInfo.score`."""
    logit_bias: float = 0.0
    kind: ModelKind = "sparse"
    """Whether codes are compared, or dense vectors."""

    @classmethod
    def build(
        cls, labels: Sequence[str], templates: Sequence[str], prompts: Embeddings, info: ModelInfo
    ) -> Classifier:
        """Averages the unit codes, or the unit dense vectors, of each label's prompts.

        `prompts` holds the embedded texts of `prompts_for(labels, templates)`, in that order.
        Raises ValueError naming the label whose text failed, or when the model was replaced
        between two texts.
        """
        for position, item in enumerate(prompts):
            if not item.ok:
                label = labels[position // len(templates)]
                raise ValueError(f"label {label!r}: {item.status.message}")
            if item.model != info.model:
                raise ValueError("the model was replaced while the labels were embedded")
        rows = _unit_rows(prompts.items, info.kind).astype(np.float64)
        means = np.vstack(
            [
                np.asarray(rows[start : start + len(templates)].sum(axis=0))
                for start in range(0, len(prompts), len(templates))
            ]
        )
        norms = np.linalg.norm(means, axis=1, keepdims=True)
        return cls(
            labels=tuple(labels),
            model=info.model,
            logit_scale=info.logit_scale,
            logit_bias=info.logit_bias,
            score_kind=info.score,
            kind=info.kind,
            weights=(means / np.maximum(norms, 1e-12)).T,
            coverage={
                label: _merged([item.coverage for item in prompts[start : start + len(templates)]])
                for label, start in zip(labels, range(0, len(prompts), len(templates)), strict=True)
            },
        )

    @property
    def silent_labels(self) -> tuple[str, ...]:
        """The labels on which no concept fires. No image is ever given one of them. A dense model
        has none."""
        return tuple(
            label
            for label, answers in zip(self.labels, self._answering, strict=True)
            if not answers
        )

    @property
    def _answering(self) -> NDArray[np.bool_]:
        """Which labels a concept answers to, (L,)."""
        return np.asarray(self.weights.any(axis=0))

    def score(self, image: Embedding) -> Classification:
        """Labels one embedded image. An image that failed has no label and no scores.

        Raises ValueError when the image was embedded by another model than the labels.
        """
        if not image.ok:
            return self._answer(image, {})
        if image.model != self.model:
            raise ValueError("the image and the labels were embedded by different models")
        answering = self._answering
        if self.kind == "sparse" and not len(image.values):
            return self._answer(image, {}, problem="no concept answers to the image")
        if not answering.any():
            return self._answer(image, {}, problem="no concept answers to any label")
        cosines = np.asarray(_unit_rows([image], self.kind) @ self.weights)[0]
        if self.kind == "sparse" and not cosines.any():
            return self._answer(image, {}, problem="the image shares no concept with any label")
        logits = np.where(answering, self.logit_scale * cosines + self.logit_bias, -np.inf)
        scores = dict(zip(self.labels, self._probabilities(logits).tolist(), strict=True))
        # By logits: the sigmoid of two large ones is 1 for both.
        top = logits.max() - _TIE
        best = [label for label, logit in zip(self.labels, logits, strict=True) if logit >= top]
        if len(best) > 1:
            return self._answer(image, scores, problem=f"equally likely: {', '.join(best)}")
        return self._answer(image, scores, label=best[0])

    def _probabilities(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """The probability of each label, (L,)."""
        if self.score_kind == "sigmoid":  # 1 / (1 + exp(-logit)), exact for small ones as well
            own: NDArray[np.float64] = np.exp(-np.logaddexp(0.0, -logits))
            return own
        exponentials: NDArray[np.float64] = np.exp(logits - logits.max())
        shares: NDArray[np.float64] = exponentials / exponentials.sum()
        return shares

    def _answer(
        self, image: Embedding, scores: Mapping[str, float], *, label: str = "", problem: str = ""
    ) -> Classification:
        return Classification(
            source=image.source,
            status=image.status,
            model=image.model,
            label=label,
            scores=scores,
            score=self.score_kind,
            undecided=problem,
            coverage=image.coverage,
            label_coverage=self.coverage,
        )


def _unit_rows(items: Sequence[Embedding], kind: ModelKind) -> Any:
    """What is compared of each item, as rows of length 1: codes (B, C), or vectors (B, D)."""
    return stack_dense(items) if kind == "dense" else stack_codes(items, normalize=True)


def _merged(coverages: Sequence[Coverage]) -> Coverage:
    """What was read of several texts as that of one."""
    longest = max(coverages, key=lambda coverage: coverage.tokens)
    words = dict.fromkeys(word for coverage in coverages for word in coverage.unknown_words)
    return replace(longest, unknown_words=tuple(words))


def prompts_for(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Every label in every template, label by label.

    Raises ValueError when there are no labels, one is repeated, or a template has no `{}`, and
    TypeError for what is no text.
    """
    if isinstance(labels, str) or not labels:
        raise ValueError("labels: give a list with at least one")
    instances(labels, str, "labels")
    instances(templates, str, "templates")
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if repeated:
        raise ValueError(f"labels: {repeated[0]!r} is given twice")
    if not templates or any("{}" not in template for template in templates):
        raise ValueError("templates: give at least one, each with {} for the label")
    return [template.replace("{}", label) for label in labels for template in templates]
