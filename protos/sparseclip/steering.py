"""Steering: edits of the concepts that a language model sees of an image, and their JSON form."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sparseclip._arguments import (
    concept_key,
    instances,
    real_number,
    unicode_text,
    whole_number,
)

EditOperation = Literal["SET", "ADD", "SCALE", "ABLATE"]
"""What an edit makes of an activation a: value, max(0, a + value), a * value, or 0."""
OPS: tuple[EditOperation, ...] = get_args(EditOperation)


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One edit of a concept, or of the concepts that a phrase stands for.

    Give either `concept` or `phrase`. Raises ValueError, or TypeError for a value of another type,
    for an edit that no server accepts. Both name the field.
    """

    op: EditOperation
    concept: int | str | None = None
    """The concept's id or exact name."""
    phrase: str | None = None
    """A word or phrase. The text tower says which concepts it stands for."""
    value: float | None = None
    """ADD and SCALE need one. SET without one uses the adapter's default strength."""
    patches: Sequence[int] | None = None
    """The patches to edit, numbered row by row from the top left; None means all."""
    top: int = 0
    """How many concepts the phrase stands for; 0 is the adapter's default."""

    def __post_init__(self) -> None:
        if self.op not in OPS:
            raise ValueError(f"op: must be one of {', '.join(OPS)}")
        if (self.concept is None) == (self.phrase is None):
            raise ValueError("concept, phrase: give one of them")
        if self.value is None and self.op in ("ADD", "SCALE"):
            raise ValueError(f"value: {self.op} needs one")
        # Numbers of numpy become Python's, which messages and JSON take.
        _keep(self, "concept", concept_key)
        _keep(self, "phrase", unicode_text)
        _keep(self, "value", real_number)
        _keep(self, "patches", _patches)
        _keep(self, "top", whole_number)


@dataclass(frozen=True, kw_only=True)
class Steering:
    """The edits of one image. No two may name the same concept or phrase, in whatever spelling."""

    edits: Sequence[Edit] = ()
    strength: float = 1.0
    """How far to go from the old activations to the new ones: 0 changes nothing, 1 is in full."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "edits", instances(self.edits, Edit, "edits"))
        object.__setattr__(self, "strength", real_number(self.strength, "strength"))

    def to_json(self) -> str:
        """Writes the JSON text that `from_json` reads."""
        edits = [
            {key: value for key, value in dataclasses.asdict(edit).items() if value is not None}
            for edit in self.edits
        ]
        return json.dumps({"edits": edits, "strength": self.strength}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Steering:
        """Reads what `to_json` or mllm_adapter's SteeringPlan.to_json writes.

        An example: `{"edits": [{"concept": 7, "op": "SET", "value": 2.0}], "strength": 1.0}`. In
        place of `concept`, an id or a name, an edit may have a `phrase`. Raises ValueError naming
        the field that is wrong.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("plan: not JSON") from None
        fields = _object(data, cls, "plan")
        entries = fields.get("edits", [])
        if not isinstance(entries, list):
            raise ValueError("edits: must be a list")
        edits = tuple(_edit(entry, f"edits[{i}]") for i, entry in enumerate(entries))
        try:
            return cls(edits=edits, strength=fields.get("strength", 1.0))
        except TypeError as error:
            raise ValueError(str(error)) from None


def check_steering(value: object) -> None:
    """Raises TypeError for what is neither a Steering nor None."""
    if not isinstance(value, Steering | None):
        raise TypeError("steering: must be a Steering")


def _edit(data: object, at: str) -> Edit:
    fields = _object(data, Edit, at)
    try:
        return Edit(**{"op": None, **fields})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{at}.{error}") from None


def _keep(edit: Edit, field: str, check: Callable[[Any, str], Any]) -> None:
    """Checks a field unless it is None, and keeps what the check makes of it. `top` has no None."""
    value = getattr(edit, field)
    if value is not None or field == "top":
        object.__setattr__(edit, field, check(value, field))


def _patches(values: Any, field: str) -> tuple[int, ...]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{field}: must be a list of numbers")
    patches = tuple(whole_number(value, field) for value in values)
    if not patches:
        raise ValueError(f"{field}: at least one, or None for all of them")
    return patches


def _object(data: object, cls: type, at: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"{at}: must be an object")
    names = {field.name for field in dataclasses.fields(cls)}
    for key in data:
        if key not in names:
            raise ValueError(f"{at}: {key}: unknown key; known are {', '.join(sorted(names))}")
    return data
