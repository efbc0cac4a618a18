"""Edits as a person types them (`dog=2`, `#123=0.5`, `=exact name`), and the set of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from sparseclip import Edit, EditOperation, ImageConcepts, Steering
from sparseclip.steering import OPS

_CONCEPT_ID = re.compile(r"#(\d{1,10})")
SHOWN_CONCEPTS = 5
"""How many concepts of a phrase are named."""
_SIGNS: dict[EditOperation, str] = {"SET": "=", "ADD": "+", "SCALE": "*", "ABLATE": ""}


def parse_edit(op: EditOperation, text: str, top: int = 0) -> Edit:
    """An edit from its target, followed by `=VALUE` where the operation takes one.

    `#123` is a concept by its id, `=name` a concept by its exact name. Anything else is a word or
    phrase, which stands for `top` concepts. Raises UsageError.
    """
    exact = text.startswith("=")
    target, value = text.removeprefix("="), None
    if op != "ABLATE":
        name, sign, number = target.rpartition("=")
        if sign:
            target, value = name, _number(number)
        elif op != "SET":
            raise click.UsageError(f"{text}: needs a value, as in {target}=0.5")
    target = target.strip()
    if not target:
        raise click.UsageError(f"{text!r}: names no concept, word or phrase")
    concept_id = _CONCEPT_ID.fullmatch(target)
    try:
        if exact:
            return Edit(op=op, concept=target, value=value)
        if concept_id:
            return Edit(op=op, concept=int(concept_id[1]), value=value)
        return Edit(op=op, phrase=target, value=value, top=top)
    except ValueError as error:
        raise click.UsageError(f"{text}: {error}") from None


def read_plan(path: Path) -> Steering:
    """Reads a steering plan from a JSON file. Raises UsageError."""
    try:
        return Steering.from_json(path.read_text(encoding="utf-8"))
    except OSError:
        raise click.UsageError(f"{path}: cannot be read") from None
    except ValueError as error:
        raise click.UsageError(f"{path}: {error}") from None


class Edits:
    """The edits that apply. The server refuses those of a command that name one target twice."""

    def __init__(self, edits: Iterable[Edit], strength: float) -> None:
        self._edits = list(edits)
        self._strength = strength

    def put(self, edit: Edit) -> None:
        """Adds an edit, in place of those of the same target."""
        self._edits = [kept for kept in self._edits if _target(kept) != _target(edit)]
        self._edits.append(edit)

    def clear(self) -> None:
        """Drops all edits."""
        self._edits.clear()

    @property
    def steering(self) -> Steering:
        """The edits as the client takes them."""
        return Steering(edits=tuple(self._edits), strength=self._strength)

    def __str__(self) -> str:
        return ", ".join(map(shown, self._edits)) or "no edits"


def _target(edit: Edit) -> int | str:
    """The target in one spelling. The server compares more of a word's spellings than case and
    white space, and also concepts with their names."""
    target = edit.concept if edit.phrase is None else edit.phrase
    return target if isinstance(target, int) else " ".join(str(target).casefold().split())


def shown(edit: Edit) -> str:
    """An edit for display, such as `dog = 2`."""
    name = edit.phrase
    if name is None:
        name = f"#{edit.concept}" if isinstance(edit.concept, int) else f"={edit.concept}"
    if edit.op == "ABLATE":
        return f"no {name}"
    value = "default" if edit.value is None else f"{edit.value:g}"
    return f"{name} {_SIGNS[edit.op]} {value}"


def taken_as(edits: Sequence[Edit], position: int, images: Sequence[ImageConcepts]) -> str:
    """What one of the edits was taken as: the concept that it names, or a phrase and the concepts
    that stand for it. Those that another edit decides come last, then the most changed first."""

    def precedence(other: int) -> tuple[bool, int]:
        return edits[other].phrase is not None, OPS.index(edits[other].op)

    edit = edits[position]
    named = [entry for image in images for entry in image.edited if position in entry.edits]
    named.sort(key=lambda entry: min(map(precedence, entry.edits)) != precedence(position))
    concepts = {entry.concept_id: entry.name for entry in named}
    if edit.phrase is None:
        kinds = [f"concept {number}, {name}" for number, name in concepts.items()]
        return f"{shown(edit)}: {', '.join(kinds) or 'a concept'}"
    names = list(concepts.values())
    listed = ", ".join(names[:SHOWN_CONCEPTS]) + (", ..." if len(names) > SHOWN_CONCEPTS else "")
    # An event lists the most changed concepts alone.
    all_listed = all(image.edited_total == len(image.edited) for image in images)
    count = f"{len(names)}" if all_listed else f"{len(names)} or more"
    return f"{shown(edit)}: a phrase, by {count} concepts: {listed}"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.UsageError(f"{text!r}: not a number") from None
