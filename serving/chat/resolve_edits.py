"""From the edits that a caller writes to a plan of distinct concepts. C concepts, P patches."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.concepts import ConceptVocabulary
from bundle.text import folded
from serving.chat.chat_request import Phrase, RequestedEdit, SteeredImage
from serving.core.errors import ServingError, invalid
from serving.core.requests import find_concept

PhraseCodes = Mapping[str, NDArray[np.float32]]
"""Phrases to their codes (C,)."""


@dataclass(frozen=True, kw_only=True)
class ResolvedEdits:
    """An image's plan, and which of the caller's edits name each of its concepts."""

    plan: Any
    """mllm_adapter.steering.plan.SteeringPlan, whose import needs torch."""
    sources: Mapping[int, tuple[int, ...]]
    """Concept ids to the indices of the caller's edits that name them."""


@dataclass(frozen=True, kw_only=True)
class EditResolver:
    """Turns edits into plans for one model."""

    concepts: ConceptVocabulary
    patches: int
    """How many patches an image has, P."""
    top: int
    """How many concepts a phrase stands for when the caller sets no number."""
    strength: float
    """The value of SET when the caller sets none."""

    def __call__(self, image: SteeredImage, codes: PhraseCodes) -> ResolvedEdits:
        """The plan of an image. Raises ServingError naming the field."""
        from mllm_adapter.steering.phrases import expand
        from mllm_adapter.steering.plan import SteeringError, SteeringPlan

        encode = functools.partial(_encode, codes)
        edits: list[Any] = []
        sources: dict[int, tuple[int, ...]] = {}
        named: dict[int | str, int] = {}
        for i, requested in enumerate(image.edits):
            at = f"{image.at}.steering.edits[{i}]"
            edit = self._edit(requested, codes, at)
            for target in self._targets(edit):
                first = named.setdefault(target, i)
                if first != i:
                    problem = f"edited twice, here and in edits[{first}]"
                    raise invalid(f"{at}.{requested.field}", problem)
            edits.append(edit)
            for expanded in expand([edit], encode):
                sources[expanded.concept] = (*sources.get(expanded.concept, ()), i)
        try:
            # All edits together, so that a concept's own edit overrides those of phrases.
            plan = SteeringPlan(edits=expand(edits, encode), strength=image.strength)
        except SteeringError:  # each edit was checked alone: only their number can be wrong
            problem = "more concepts than a plan may have"
            raise invalid(f"{image.at}.steering.edits", problem) from None
        return ResolvedEdits(plan=plan, sources=sources)

    def _edit(self, requested: RequestedEdit, codes: PhraseCodes, at: str) -> Any:
        """A WordEdit or a SteeringEdit, checked."""
        from mllm_adapter.steering.phrases import WordEdit
        from mllm_adapter.steering.plan import SteeringEdit

        target = requested.target
        concept = 0  # a phrase's concepts are not known yet
        if not isinstance(target, Phrase):
            concept = find_concept(self.concepts, target, f"{at}.{requested.field}").id
        value = requested.value
        if value is None:
            value = self.strength if requested.op == "SET" else 0.0
        edit = SteeringEdit(
            concept=concept,
            op=requested.op,
            value=0.0 if requested.op == "ABLATE" else value,
            patches=requested.patches or None,
        )
        self._check(edit, at)
        if not isinstance(target, Phrase):
            return edit
        if not (codes[target.text] > 0).any():
            raise invalid(f"{at}.phrase", "no concept answers to it")
        return WordEdit(
            word=target.text,
            op=edit.op,
            value=edit.value,
            top=target.top or self.top,
            patches=edit.patches,
        )

    def _targets(self, edit: Any) -> tuple[int | str, ...]:
        """What an edit names, spelled in one way. A phrase and a concept's own edit name the same
        where the phrase reads like the concept's name."""
        from mllm_adapter.steering.phrases import WordEdit

        if isinstance(edit, WordEdit):
            return (folded(edit.word),)
        return edit.concept, folded(self.concepts[edit.concept].name)

    def _check(self, edit: Any, at: str) -> None:
        """Raises what mllm_adapter says of an edit, with the path of the request's field."""
        from mllm_adapter.steering.plan import SteeringError, SteeringPlan

        try:
            SteeringPlan(edits=(edit,)).check(len(self.concepts), self.patches)
        except SteeringError as error:
            raise _at_field(error, at) from None


def _at_field(error: Exception, at: str) -> ServingError:
    field, _, problem = str(error).removeprefix("edits[0].").partition(": ")
    return invalid(f"{at}.{field}", problem)


def _encode(codes: PhraseCodes, phrases: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([codes[phrase] for phrase in phrases])
