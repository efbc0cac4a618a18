"""Steering: edits of the concepts that a language model sees of an image, and their JSON form."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

EditOperation = Literal["SET", "ADD", "SCALE", "ABLATE"]
"""What an edit makes of an activation a: value, max(0, a + value), a * value, or 0."""
OPS: tuple[EditOperation, ...] = get_args(EditOperation)


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One edit of a concept, or of the concepts that a phrase stands for.

    Give either `concept` or `phrase`. Raises ValueError, naming the field, for an edit that no
    server accepts.
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
        if isinstance(self.concept, int) and not 0 <= self.concept < 2**32:
            raise ValueError("concept: not an id")
        if self.value is None and self.op in ("ADD", "SCALE"):
            raise ValueError(f"value: {self.op} needs one")
        if not 0 <= self.top < 2**32:
            raise ValueError("top: must not be negative")
        if self.patches is not None and not self.patches:
            raise ValueError("patches: at least one, or None for all of them")
        if not all(0 <= patch < 2**32 for patch in self.patches or ()):
            raise ValueError("patches: must not be negative")


@dataclass(frozen=True, kw_only=True)
class Steering:
    """The edits of one image. No two may name the same concept or phrase, in whatever spelling."""

    edits: Sequence[Edit] = ()
    strength: float = 1.0
    """How far to go from the old activations to the new ones: 0 changes nothing, 1 is in full."""

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
        return cls(edits=edits, strength=_number(fields.get("strength", 1.0), "strength"))


def _edit(data: object, at: str) -> Edit:
    fields = _object(data, Edit, at)
    concept, phrase = fields.get("concept"), fields.get("phrase")
    value, patches, top = fields.get("value"), fields.get("patches"), fields.get("top", 0)
    if isinstance(concept, bool) or not isinstance(concept, int | str | None):
        raise ValueError(f"{at}.concept: must be an id or a name")
    if not isinstance(phrase, str | None):
        raise ValueError(f"{at}.phrase: must be text")
    if patches is not None and not (isinstance(patches, list) and all(map(_is_count, patches))):
        raise ValueError(f"{at}.patches: must be a list of numbers")
    if not _is_count(top):
        raise ValueError(f"{at}.top: must be a whole number")
    try:
        return Edit(
            op=fields.get("op"),  # type: ignore[arg-type]  # checked by Edit
            concept=concept,
            phrase=phrase,
            value=None if value is None else _number(value, f"{at}.value"),
            patches=patches,
            top=top,
        )
    except ValueError as error:
        message = str(error)
        raise ValueError(message if message.startswith(at) else f"{at}.{message}") from None


def _object(data: object, cls: type, at: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"{at}: must be an object")
    names = {field.name for field in dataclasses.fields(cls)}
    for key in data:
        if key not in names:
            raise ValueError(f"{at}: {key}: unknown key; known are {', '.join(sorted(names))}")
    return data


def _number(value: object, at: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{at}: must be a number")
    return float(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
