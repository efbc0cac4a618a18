"""What a model did not read or does not know of a text, as lines for a person."""

from __future__ import annotations

import click

from sparseclip import Coverage


def text_warnings(text: str, coverage: Coverage) -> list[str]:
    """One line for words that the model does not know, and one for a text that was cut."""
    lines = []
    if coverage.unknown_words:
        words = ", ".join(coverage.unknown_words)
        lines.append(f"{text!r}: the model does not know: {words}")
    if coverage.truncated:
        lines.append(f"{text!r}: its end was not read, since it has {coverage.tokens} tokens")
    return lines


def warn_about_text(text: str, coverage: Coverage) -> None:
    """Prints the warnings about a text to stderr."""
    for line in text_warnings(text, coverage):
        click.echo(f"Warning: {line}", err=True)
