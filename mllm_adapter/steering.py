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
from enum import IntEnum
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bundle.schema import SchemaError, from_dict

MAX_EDITS = 4096
"""Concepts that one plan may edit."""
MAX_VALUE = 1e4
"""The greatest value of an edit: far beyond any activation, and its projection stays finite."""


class SteeringError(ValueError):
    """A plan that is refused; the message names the field."""


class Op(IntEnum):
    """What an edit makes of an activation a >= 0."""

    SET = 0
    """value"""
    ADD = 1
    """max(0, a + value)"""
    SCALE = 2
    """a * value"""
    ABLATE = 3
    """0"""


@dataclass(frozen=True, kw_only=True)
class SteeringEdit:
    """One change to one concept, on all patches or on some."""

    concept: int
    op: Literal["SET", "ADD", "SCALE", "ABLATE"]
    value: float = 0.0
    """Of SET and SCALE 0 or more; ABLATE reads none."""
    patches: tuple[int, ...] | None = None
    """Row by row from the top left; None is all of them."""


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
    """All edits of the pictures of a batch."""

    row: Int[Tensor, " E"]
    concept: Int[Tensor, " E"]
    op: Int[Tensor, " E"]
    value: Float[Tensor, " E"]
    strength: Float[Tensor, " E"]
    region: Bool[Tensor, "E P"]

    @classmethod
    def of(
        cls, plans: Sequence[SteeringPlan | None], patches: int, device: torch.device | str = "cpu"
    ) -> SteeringBatch:
        """The edits of one plan a row; None and empty plans have none."""
        chosen = [
            (row, plan.strength, edit)
            for row, plan in enumerate(plans)
            if plan is not None and not plan.empty
            for edit in plan.edits
        ]
        region = torch.ones(len(chosen), patches, dtype=torch.bool)
        for e, (_, _, edit) in enumerate(chosen):
            if edit.patches is not None:
                region[e] = False
                region[e, list(edit.patches)] = True
        return cls(
            row=torch.tensor([row for row, _, _ in chosen], dtype=torch.int64, device=device),
            concept=torch.tensor([e.concept for *_, e in chosen], dtype=torch.int64, device=device),
            op=torch.tensor([Op[e.op] for *_, e in chosen], dtype=torch.int64, device=device),
            value=torch.tensor([e.value for *_, e in chosen], device=device),
            strength=torch.tensor([s for _, s, _ in chosen], device=device),
            region=region.to(device),
        )


def edited(old: Float[Tensor, "E P"], batch: SteeringBatch) -> Float[Tensor, "E P"]:
    """What the edits make of the activations `old` of their concepts on their rows' patches."""
    value, op = batch.value[:, None], batch.op[:, None]
    new = torch.where(op == Op.SET, value.expand_as(old), torch.zeros_like(old))
    new = torch.where(op == Op.ADD, (old + value).clamp(min=0), new)
    new = torch.where(op == Op.SCALE, old * value, new)
    new = torch.lerp(old, new, batch.strength[:, None])
    return torch.where(batch.region, new, old)


def apply_steering(codes: Float[Tensor, "B P C"], batch: SteeringBatch) -> Float[Tensor, "B P C"]:
    """Patch codes after all edits. Pure; rows without edits, and codes without any, stay as they
    are bit for bit."""
    if len(batch.row) == 0:
        return codes
    result = codes.clone()
    result[batch.row, :, batch.concept] = edited(codes[batch.row, :, batch.concept], batch)
    return result
