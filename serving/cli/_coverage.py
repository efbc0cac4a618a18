"""How commands choose what is read of an input, and how they show what was not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from sparseclip import Coverage, ScoredConcept

framing_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--framing",
    type=click.Choice(["crop", "pad"]),
    help="Read the middle square of an image, or all of it between bars."
    "  [default: as the model was trained]",
)
refuse_long_texts_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--refuse-long-texts",
    is_flag=True,
    help="Refuse a text that is longer than the model's context, instead of cutting it.",
)

_WHOLE = 0.995
"""The share of an image from which on it counts as read whole: a line of pixels is no loss."""
_USUAL_GROUND = "#ffffff"
"""The default background of a bundle. Under a transparent image it is no news."""


def notes(coverage: Coverage, context: int = 0, *, active: int | None = None) -> list[str]:
    """What a reply did not see of an input, in words.

    `context` is how many tokens the model reads, 0 if that is not known, and `active` how many
    concepts fired if that is known.
    """
    found = []
    if coverage.truncated:
        of = f"{context} of " if context else "it has "
        found.append(f"text cut: {of}{coverage.tokens} tokens")
    if coverage.unknown_words:
        found.append(f"unknown words: {', '.join(coverage.unknown_words)}")
    if 0 < coverage.image_share < _WHOLE:
        found.append(f"cropped: {coverage.image_share:.0%} of the image read")
    if coverage.ground not in (None, _USUAL_GROUND):
        found.append(f"ground {coverage.ground}")
    if coverage.frames > 1:
        found.append(f"frame 1 of {coverage.frames}")
    if active == 0:
        found.append("no concept answers to it")
    return found


def warn_about_text(text: str, coverage: Coverage) -> None:
    """Prints to stderr what the model did not read, or does not know, of a text."""
    for note in notes(coverage):
        click.echo(f"Warning: {text!r}: {note}", err=True)


def shown_concept(concept: ScoredConcept, *, digits: int = 2) -> str:
    """A concept with its value: `dog 1.23`, and behind it how far its name can be trusted."""
    return f"{concept.name} {concept.value:.{digits}f}{_doubts(concept)}"


def _doubts(concept: ScoredConcept) -> str:
    """What stands behind a concept's name: ` (name 88%, hub)`, or nothing."""
    found = []
    if concept.name_confidence is not None:
        found.append(f"name {concept.name_confidence:.0%}")
    if concept.hub:
        found.append("hub")
    return f" ({', '.join(found)})" if found else ""


def shown_concepts(concepts: Sequence[ScoredConcept]) -> str:
    """Concepts in one cell."""
    return ", ".join(map(shown_concept, concepts))
