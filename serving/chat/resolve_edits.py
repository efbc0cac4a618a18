"""From the edits that a caller writes to a plan of distinct concepts. C concepts, P patches."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.concepts import ConceptVocabulary
from serving.chat.requests import Phrase, RequestedEdit, SteeredImage
from serving.core.errors import ServingError, invalid
from serving.core.requests import concept_id

Plan = Any  # mllm_adapter.steering.plan.SteeringPlan, whose import needs torch
PhraseCodes = Mapping[str, NDArray[np.float32]]
"""Phrases to their codes (C,)."""


@dataclass(frozen=True, kw_only=True)
class ResolvedEdits:
    """An image's plan, and where its concepts come from."""

    plan: Plan
    named: Mapping[int, tuple[int, ...]]
    """Concept ids to the places of the caller's edits that named them."""


@dataclass(frozen=True, kw_only=True)
class EditResolver:
    """Turns edits into plans for one model."""

    concepts: ConceptVocabulary
    patches: int
    """P."""
    top: int
    """Concepts of a phrase where the caller names no number."""
    strength: float
    """What SET gives where the caller names no value."""

    def __call__(self, image: SteeredImage, codes: PhraseCodes) -> ResolvedEdits:
        """The plan of an image. Raises ServingError naming the field."""
        from mllm_adapter.steering.phrases import WordEdit, expand
        from mllm_adapter.steering.plan import SteeringError, SteeringPlan

        encode = functools.partial(_encode, codes)
        made: list[Any] = []
        named: dict[int, tuple[int, ...]] = {}
        taken: set[int | str] = set()
        for i, edit in enumerate(image.edits):
            at = f"{image.at}.steering.edits[{i}]"
            single = self._edit(edit, codes, at)
            key = single.word if isinstance(single, WordEdit) else single.concept
            if key in taken:
                raise invalid(f"{at}.{edit.field}", "edited twice")
            taken.add(key)
            made.append(single)
            for concept in expand([single], encode):
                named[concept.concept] = (*named.get(concept.concept, ()), i)
        try:
            plan = SteeringPlan(edits=expand(made, encode), strength=image.strength)
        except SteeringError:  # each edit was checked alone: what is left is their number
            raise invalid(f"{image.at}.steering.edits", "more concepts than a plan has") from None
        return ResolvedEdits(plan=plan, named=named)

    def _edit(self, edit: RequestedEdit, codes: PhraseCodes, at: str) -> Any:
        """A WordEdit or a SteeringEdit, checked."""
        from mllm_adapter.steering.phrases import WordEdit
        from mllm_adapter.steering.plan import SteeringEdit

        phrase = edit.target if isinstance(edit.target, Phrase) else None
        concept = 0
        if not isinstance(edit.target, Phrase):
            concept = concept_id(self.concepts, edit.target, f"{at}.{edit.field}")
        value = edit.value
        if value is None:
            value = self.strength if edit.op == "SET" else 0.0
        single = SteeringEdit(
            concept=concept,
            op=edit.op,
            value=0.0 if edit.op == "ABLATE" else value,
            patches=edit.patches or None,
        )
        self._check(single, at)
        if phrase is None:
            return single
        if not (codes[phrase.text] > 0).any():
            raise invalid(f"{at}.phrase", "no concept answers to it")
        return WordEdit(
            word=phrase.text,
            op=single.op,
            value=single.value,
            top=phrase.top or self.top,
            patches=single.patches,
        )

    def _check(self, single: Any, at: str) -> None:
        """What mllm_adapter says of an edit, with the path of the request's field."""
        from mllm_adapter.steering.plan import SteeringError, SteeringPlan

        try:
            SteeringPlan(edits=(single,)).check(len(self.concepts), self.patches)
        except SteeringError as error:
            raise _named(error, at) from None


def _named(error: Exception, at: str) -> ServingError:
    field, _, problem = str(error).removeprefix("edits[0].").partition(": ")
    return invalid(f"{at}.{field}", problem)


def _encode(codes: PhraseCodes, phrases: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([codes[phrase] for phrase in phrases])
