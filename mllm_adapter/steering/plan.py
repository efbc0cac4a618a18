"""Edits of concepts before the projector. B batch, P patches, C concepts, E edits.

Sparse CLIP steers by overwriting activations before the adapter: 0 suppresses a concept, a fixed
strength boosts it (arXiv 2601.20075, section 5). Here steering is data: a plan, and one pure
function that applies plans to codes.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bundle.schema import SchemaError, from_dict

MAX_EDITS = 4096
"""The most concepts that one plan may edit."""
MAX_VALUE = 1e4
"""The largest value of an edit, up or down: far above any activation, but finite once projected."""

EditOp = Literal["SET", "ADD", "SCALE", "ABLATE"]
"""An edit turns an activation a >= 0 into: value (SET), max(0, a + value) (ADD), a * value (SCALE)
or 0 (ABLATE)."""


class SteeringError(ValueError):
    """A plan that is refused; the message names the field."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SteeringEdit:
    """One change to one concept, on all patches or on some."""

    concept: int
    op: EditOp
    value: float = 0.0
    """0 or more for SET and SCALE, any number for ADD; ABLATE ignores it."""
    patches: tuple[int, ...] | None = None
    """The patches to edit, numbered row by row from the top left; None means all."""

    @property
    def affine(self) -> tuple[float, float]:
        """(scale, shift), with which an activation a becomes max(0, scale * a + shift)."""
        if self.op == "SET":
            return 0.0, self.value
        if self.op == "ADD":
            return 1.0, self.value
        return (self.value, 0.0) if self.op == "SCALE" else (0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class SteeringPlan:
    """Edits of distinct concepts, blended with the old activations by `strength`.

    Raises SteeringError, which names the field, for a plan that is invalid for every model.
    """

    edits: tuple[SteeringEdit, ...] = ()
    strength: float = 1.0
    """From 0, which changes nothing, to 1, which applies the edits in full."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise SteeringError("strength: must be 0 to 1")
        if len(self.edits) > MAX_EDITS:
            raise SteeringError(f"edits: more than {MAX_EDITS}")
        edited: set[int] = set()
        for i, edit in enumerate(self.edits):
            at = f"edits[{i}]"
            if edit.concept < 0:
                raise SteeringError(f"{at}.concept: must be 0 or more")
            if edit.concept in edited:
                raise SteeringError(f"{at}.concept: edited twice")
            edited.add(edit.concept)
            if not math.isfinite(edit.value) or abs(edit.value) > MAX_VALUE:
                raise SteeringError(f"{at}.value: must be finite and at most {MAX_VALUE:g}")
            if edit.value < 0 and edit.op != "ADD":
                raise SteeringError(f"{at}.value: must be 0 or more")
            if edit.patches is not None and (not edit.patches or min(edit.patches) < 0):
                raise SteeringError(f"{at}.patches: must be one or more, each 0 or more")

    def check(self, concepts: int, patches: int) -> None:
        """Raises SteeringError for a concept or a patch that is outside of a model's C or P."""
        for i, edit in enumerate(self.edits):
            if edit.concept >= concepts:
                raise SteeringError(f"edits[{i}].concept: the model has {concepts}")
            if edit.patches is not None and max(edit.patches) >= patches:
                raise SteeringError(f"edits[{i}].patches: the model has {patches}")

    @property
    def empty(self) -> bool:
        """Whether the plan changes nothing."""
        return not self.edits or self.strength == 0

    def to_json(self) -> str:
        """The plan as JSON text that `from_json` reads."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> SteeringPlan:
        """Reads a plan from JSON text. Raises SteeringError, which names the field."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            raise SteeringError("plan: not JSON") from None
        try:
            return from_dict(cls, data, at="")
        except SchemaError as error:
            raise SteeringError(str(error)) from None


class SteeringBatch(NamedTuple):
    """All edits of a batch of images, one entry per edit."""

    row: Int[Tensor, " E"]
    """The image in the batch."""
    concept: Int[Tensor, " E"]
    scale: Float[Tensor, "E 1"]
    shift: Float[Tensor, "E 1"]
    weight: Float[Tensor, "E P"]
    """The plan's strength on the patches that are edited, 0 on the others."""

    @classmethod
    def from_plans(
        cls, plans: Sequence[SteeringPlan | None], patches: int, device: torch.device | str = "cpu"
    ) -> SteeringBatch:
        """Collects the edits of one plan per image; None and empty plans add none."""
        edits = [
            (row, plan.strength, edit)
            for row, plan in enumerate(plans)
            if plan is not None and not plan.empty
            for edit in plan.edits
        ]
        rows = np.array([row for row, _, _ in edits], np.int64)
        concepts = np.array([edit.concept for _, _, edit in edits], np.int64)
        affine = np.array([edit.affine for _, _, edit in edits], np.float32).reshape(-1, 2)
        weight = np.zeros((len(edits), patches), np.float32)
        for e, (_, strength, edit) in enumerate(edits):
            weight[e, slice(None) if edit.patches is None else list(edit.patches)] = strength
        arrays = (rows, concepts, affine[:, :1], affine[:, 1:], weight)
        return cls(*(torch.from_numpy(array).to(device) for array in arrays))


def edited_activations(old: Float[Tensor, "E P"], batch: SteeringBatch) -> Float[Tensor, "E P"]:
    """The new activations of edited concepts, from `old`: row e is edit e's concept on all patches
    of its image."""
    new = torch.addcmul(batch.shift, old, batch.scale).clamp_(min=0)
    return torch.lerp(old, new, batch.weight)


def apply_steering(codes: Float[Tensor, "B P C"], batch: SteeringBatch) -> Float[Tensor, "B P C"]:
    """Patch codes after all edits; the input is not modified.

    Images without edits, and concepts and patches that no edit names, keep their exact values.
    """
    if len(batch.row) == 0:
        return codes
    result = codes.clone()
    # Both sides are (E, P): index arrays around a slice put their own axis first. No element is
    # written twice, because the concepts of a plan are distinct and each image has one plan.
    result[batch.row, :, batch.concept] = edited_activations(
        codes[batch.row, :, batch.concept], batch
    )
    return result
