"""Edits of named concepts before the projector. B batch, P patches, C concepts, E edits.

Sparse CLIP steers by overwriting sparse activations in front of the adapter: 0 suppresses, a fixed
strength boosts (arXiv 2601.20075, section 5). Here that is data: a plan, and one pure function.
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
"""Concepts that one plan may edit."""
MAX_VALUE = 1e4
"""The greatest value of an edit: far beyond any activation, and its projection stays finite."""

EditOp = Literal["SET", "ADD", "SCALE", "ABLATE"]
"""What an edit makes of an activation a >= 0: its value, max(0, a + value), a * value, or 0."""


class SteeringError(ValueError):
    """A plan that is refused; the message names the field."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SteeringEdit:
    """One change to one concept, on all patches or on some."""

    concept: int
    op: EditOp
    value: float = 0.0
    """Of SET and SCALE 0 or more; ABLATE reads none."""
    patches: tuple[int, ...] | None = None
    """Row by row from the top left; None is all of them."""

    @property
    def affine(self) -> tuple[float, float]:
        """(scale, shift): an activation a becomes max(0, scale * a + shift)."""
        if self.op == "SET":
            return 0.0, self.value
        if self.op == "ADD":
            return 1.0, self.value
        return (self.value, 0.0) if self.op == "SCALE" else (0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class SteeringPlan:
    """Edits of distinct concepts, and how far to go from the old activations to the new ones.

    Raises SteeringError, naming the field, for a plan that no model could take.
    """

    edits: tuple[SteeringEdit, ...] = ()
    strength: float = 1.0
    """0 leaves all as it was, 1 is the edit in full."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise SteeringError("strength: must be 0 to 1")
        if len(self.edits) > MAX_EDITS:
            raise SteeringError(f"edits: more than {MAX_EDITS}")
        seen: set[int] = set()
        for i, edit in enumerate(self.edits):
            at = f"edits[{i}]"
            if edit.concept < 0:
                raise SteeringError(f"{at}.concept: must be 0 or more")
            if edit.concept in seen:
                raise SteeringError(f"{at}.concept: edited twice")
            seen.add(edit.concept)
            if not math.isfinite(edit.value) or abs(edit.value) > MAX_VALUE:
                raise SteeringError(f"{at}.value: must be finite and at most {MAX_VALUE:g}")
            if edit.value < 0 and edit.op != "ADD":
                raise SteeringError(f"{at}.value: must be 0 or more")
            if edit.patches is not None and (not edit.patches or min(edit.patches) < 0):
                raise SteeringError(f"{at}.patches: must be one or more, each 0 or more")

    def check(self, concepts: int, patches: int) -> None:
        """Raises SteeringError for a concept or a patch that a model does not have."""
        for i, edit in enumerate(self.edits):
            if edit.concept >= concepts:
                raise SteeringError(f"edits[{i}].concept: the model has {concepts}")
            if edit.patches is not None and max(edit.patches) >= patches:
                raise SteeringError(f"edits[{i}].patches: the model has {patches}")

    @property
    def empty(self) -> bool:
        """It changes nothing."""
        return not self.edits or self.strength == 0

    def to_json(self) -> str:
        """As JSON text, which `from_json` reads."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> SteeringPlan:
        """Reads a plan. Raises SteeringError naming the field."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            raise SteeringError("plan: not JSON") from None
        try:
            return from_dict(cls, data, at="")
        except SchemaError as error:
            raise SteeringError(str(error)) from None


class SteeringBatch(NamedTuple):
    """All edits of the images of a batch."""

    row: Int[Tensor, " E"]
    concept: Int[Tensor, " E"]
    scale: Float[Tensor, "E 1"]
    shift: Float[Tensor, "E 1"]
    weight: Float[Tensor, "E P"]
    """How far to go on each patch: its plan's strength, and 0 outside its region."""

    @classmethod
    def from_plans(
        cls, plans: Sequence[SteeringPlan | None], patches: int, device: torch.device | str = "cpu"
    ) -> SteeringBatch:
        """The edits of one plan a row; None and empty plans have none."""
        chosen = [
            (row, plan.strength, edit)
            for row, plan in enumerate(plans)
            if plan is not None and not plan.empty
            for edit in plan.edits
        ]
        rows = np.array([row for row, _, _ in chosen], np.int64)
        concepts = np.array([edit.concept for _, _, edit in chosen], np.int64)
        affine = np.array([edit.affine for _, _, edit in chosen], np.float32).reshape(-1, 2)
        weight = np.zeros((len(chosen), patches), np.float32)
        for e, (_, strength, edit) in enumerate(chosen):
            weight[e, slice(None) if edit.patches is None else list(edit.patches)] = strength
        arrays = (rows, concepts, affine[:, :1], affine[:, 1:], weight)
        return cls(*(torch.from_numpy(array).to(device) for array in arrays))


def edited_activations(old: Float[Tensor, "E P"], batch: SteeringBatch) -> Float[Tensor, "E P"]:
    """What the edits make of the activations `old` of their concepts on their rows' patches."""
    new = torch.addcmul(batch.shift, old, batch.scale).clamp_(min=0)
    return torch.lerp(old, new, batch.weight)


def apply_steering(codes: Float[Tensor, "B P C"], batch: SteeringBatch) -> Float[Tensor, "B P C"]:
    """Patch codes after all edits. Pure; rows without edits, and codes without any, stay as they
    are bit for bit."""
    if len(batch.row) == 0:
        return codes
    result = codes.clone()
    result[batch.row, :, batch.concept] = edited_activations(
        codes[batch.row, :, batch.concept], batch
    )
    return result
