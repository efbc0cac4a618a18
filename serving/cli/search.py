"""`sparseclip search DATABASE`: the rows nearest to a text, an image or named concepts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from serving.cli.connection import Target, with_target
from serving.cli.edits import parse_edit
from serving.cli.index import with_collection
from serving.cli.output import ResultWriter, json_option, print_json

if TYPE_CHECKING:
    from serving.index.databases.base import Origin
    from serving.index.query import Part


@click.command()
@click.argument("database")
@click.option("--text", "texts", multiple=True, help="Like this text (repeatable).")
@click.option("--image", "images", multiple=True, help="Like this image (repeatable).")
@click.option(
    "--concept",
    "concepts",
    multiple=True,
    metavar="WORD[=WEIGHT]",
    help="With so much of this (repeatable).  [default weight: 1]",
)
@click.option(
    "--without",
    "withouts",
    multiple=True,
    metavar="WORD[=WEIGHT]",
    help="With none of this (repeatable).",
)
@click.option(
    "--top", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many rows."
)
@with_collection
@json_option
@with_target
def search(
    target: Target,
    database: str,
    texts: tuple[str, ...],
    images: tuple[str, ...],
    concepts: tuple[str, ...],
    withouts: tuple[str, ...],
    top: int,
    name: str,
    database_token: str | None,
    as_json: bool,
) -> None:
    """Find the rows of DATABASE, which `sparseclip index` filled, that are nearest to a query.

    A WORD is any word or phrase, `#123` a concept by its id, `=name` a concept by its exact name.
    All that is given is added up, each at its weight. Of opensearch: and elasticsearch: folders
    the answer is the query to send to that database.
    """
    from serving.index.databases.base import SinkError
    from serving.index.databases.bulk_files import Bulk
    from serving.index.databases.choose import opened
    from serving.index.query import QueryError, make_query

    try:
        parts = _parts(texts, images, concepts, withouts)
        with opened(database, name, token=database_token) as sink:
            origin = sink.origin()
            with target.open() as client:
                query = make_query(client, parts)
            _refuse_other(target, origin, query.model, f"name {name}")
            if isinstance(sink, Bulk):
                print_json(sink.body(query.code, top))
                return
            hits = sink.search(query.code, top)
    except (QueryError, SinkError) as error:
        raise click.ClickException(str(error)) from None
    report = ResultWriter("score", "id", "source", as_json=as_json)
    for hit in hits:
        report.add(
            {"id": hit.id, "source": hit.source, "score": hit.score},
            f"{hit.score:.3f}",
            hit.id,
            hit.source,
        )
    report.close()
    if not hits:
        click.echo("nothing shares a concept with the query", err=True)


def _parts(
    texts: Sequence[str], images: Sequence[str], concepts: Sequence[str], withouts: Sequence[str]
) -> list[Part]:
    from serving.index.query import Part

    if not (texts or images or concepts):
        raise click.UsageError("name a --text, --image or --concept to look for")
    parts = [Part(text=text) for text in texts]
    parts += [Part(image=path) for path in images]
    for sign, words in ((1.0, concepts), (-1.0, withouts)):
        for word in words:
            edit = parse_edit("SET", word)
            weight = sign * (1.0 if edit.value is None else edit.value)
            parts.append(Part(text=edit.phrase, concept=edit.concept, weight=weight))
    return parts


def _refuse_other(target: Target, indexed: Origin, model: str, where: str) -> None:
    """Raises SinkError unless the query is of the model whose codes are searched.

    A server tells a model's name and version only; a bundle of this process is compared whole.
    """
    from bundle.store import default_bundle, open_bundle
    from serving.index.databases.base import Origin

    digest = indexed.bundle
    if not target.server:
        digest = open_bundle(target.bundle or default_bundle()).manifest.digest
    indexed.refuse_other(Origin(model=model, bundle=digest), where)
