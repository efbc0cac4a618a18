"""Edits as a person types them (`dog=2`, `#123=0.5`, `=exact name`), and the set of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import click

from sparseclip import Edit, EditOperation, Steering

_CONCEPT_ID = re.compile(r"#(\d{1,10})")
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


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.UsageError(f"{text!r}: not a number") from None
