"""`sparseclip concepts`: what the concepts of a model mean."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import click

from serving.cli._connection import Target, with_target
from serving.cli._coverage import warn_about_text
from serving.cli._inputs import concept_key
from serving.cli._output import ResultWriter, as_record, json_option, named
from sparseclip import CallError, Concept

_COLUMNS = ("id", "name", "also", "fires on", "image/text", "name holds", "words")


@click.group()
def concepts() -> None:
    """List, show and search the concepts of a model."""


@concepts.command("list")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after this many. Default: all.")
@click.option("--active-only", is_flag=True, help="Leave out concepts that hardly ever fire.")
@json_option
@with_target
def list_command(target: Target, limit: int | None, active_only: bool, as_json: bool) -> None:
    """List concepts by id."""
    writer = ResultWriter(*_COLUMNS, as_json=as_json)
    with target.open() as client:
        for concept in islice(client.concepts(active_only=active_only), limit):
            writer.add(as_record(concept), *cells(concept))
    writer.close()


@concepts.command()
@click.argument("keys", nargs=-1, required=True, metavar="ID|NAME...")
@json_option
@with_target
def get(target: Target, keys: tuple[str, ...], as_json: bool) -> None:
    """Show concepts with the evidence for their names."""
    writer = ResultWriter(*_COLUMNS, "images", as_json=as_json)
    with target.open() as client:
        for key in keys:
            try:
                concept = client.get_concept(concept_key(key))
            except CallError as error:
                writer.fail_call(key, error)
                continue
            images = "; ".join(entry.source for entry in concept.images[:3])
            writer.add({"source": key} | as_record(concept), *cells(concept), images)
    writer.close()


@concepts.command()
@click.argument("queries", nargs=-1, required=True, metavar="WORD...")
@click.option(
    "--limit", type=click.IntRange(min=1), default=10, show_default=True, help="Matches per word."
)
@json_option
@with_target
def search(target: Target, queries: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Find the concepts that words or phrases activate."""
    writer = ResultWriter("query", "activation", *_COLUMNS, as_json=as_json)
    with target.open() as client:
        for query in queries:
            try:
                matches = client.search_concepts(query, limit=limit)
            except CallError as error:
                writer.fail_call(query, error)
                continue
            if as_json:
                writer.add(
                    {
                        "source": query,
                        "matches": [as_record(match) for match in matches],
                        "coverage": as_record(matches.coverage),
                    }
                )
                continue
            warn_about_text(query, matches.coverage)
            if len(matches) < limit and not any(match.activation for match in matches):
                click.echo(f"Warning: {query!r}: no concept answers to it", err=True)
            for match in matches:
                only_name = match.name_match and not match.activation
                shown = "name" if only_name else f"{match.activation:.2f}"
                writer.add({}, query, shown, *cells(match.concept))
    writer.close()


def cells(concept: Concept) -> Iterable[str]:
    """A concept as a row of the table. Each thing has one column."""
    words: list[tuple[str, Any]] = [(entry.source, entry.value) for entry in concept.words[:5]]
    return (
        str(concept.concept_id),
        concept.name,
        ", ".join(concept.aliases[:4]),
        f"{concept.frequency:.2%}",
        "–" if concept.modality is None else f"{concept.modality:.2f}",
        _trust(concept),
        named(words),
    )


def _trust(concept: Concept) -> str:
    """How far the name can be trusted, and whether the concept is a hub."""
    confidence = concept.name_confidence
    parts = ["–" if confidence is None else f"{confidence:.0%}", *(["hub"] if concept.hub else [])]
    return ", ".join(parts)
