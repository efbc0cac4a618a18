"""`sparseclip search DATABASE`: the rows nearest to a text, an image or named concepts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from serving.cli._connection import Target, with_target
from serving.cli._coverage import warn_about_text
from serving.cli._edits import parse_edit
from serving.cli._output import ResultWriter, json_option, print_json
from serving.cli.index import with_collection
from sparseclip import ModelInfo

if TYPE_CHECKING:
    from serving.index.databases.base import Origin
    from serving.index.query import QueryTerm

INSTEAD = "search by --text or --image, or make a sparse model by `sparseclip sparsify`"


@click.command()
@click.argument("database")
@click.option("--text", "texts", multiple=True, help="Find rows like this text (repeatable).")
@click.option(
    "--image", "images", multiple=True, help="Find rows like this image file (repeatable)."
)
@click.option(
    "--concept",
    "concepts",
    multiple=True,
    metavar="WORD[=WEIGHT]",
    help="Find rows that hold this concept. The default weight is 1 (repeatable).",
)
@click.option(
    "--without",
    "withouts",
    multiple=True,
    metavar="WORD[=WEIGHT]",
    help="Find rows that do not hold this concept. The default weight is 1 (repeatable).",
)
@click.option(
    "--top",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="How many rows to find.",
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

    A WORD is any word or phrase, `#123` is a concept by its id, and `=name` a concept by its exact
    name. The query is the weighted sum of the codes of all texts, images and WORDs; of a dense
    model, which has no WORDs, that of the vectors of all texts and images. For opensearch: and
    elasticsearch: folders the command prints the request to send to that database.
    """
    from bundle.plugins import PluginError
    from serving.index.database_address import open_database
    from serving.index.databases.base import (
        DatabaseError,
        RequestWriter,
        SearchableDatabase,
    )
    from serving.index.query import QueryError, make_query

    try:
        terms = _query_terms(texts, images, concepts, withouts)
        with open_database(database, name, token=database_token) as collection:
            origin = collection.origin()
            dense = origin.dense_dim > 0
            for option, words in (("--concept", concepts), ("--without", withouts)):
                if dense and words:
                    raise QueryError(f"{option}: {name} holds dense vectors; {INSTEAD}")
            with target.open() as client:
                _refuse_other_kind(client.model_info(), dense, name)
                query = make_query(client, terms, dense=dense)
            for text, coverage in query.texts.items():
                warn_about_text(text, coverage)
            _refuse_other_model(target, origin, query.model, f"name {name}")
            if isinstance(collection, RequestWriter):
                print_json(collection.search_request(query.vector, top))
                return
            assert isinstance(collection, SearchableDatabase)
            hits = collection.search(query.vector, top)
    except (DatabaseError, PluginError, QueryError) as error:
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
    if not hits and not dense:
        click.echo("nothing shares a concept with the query", err=True)


def _refuse_other_kind(info: ModelInfo, dense: bool, name: str) -> None:
    """Raises DatabaseError where the model does not make what the collection holds."""
    from serving.index.databases.base import DatabaseError

    model = f"{info.model.name}/{info.model.version}"
    if dense and not info.dense_dim:
        raise DatabaseError(f"name {name}: holds dense vectors, and {model} has none to compare")
    if not dense and info.kind == "dense":
        raise DatabaseError(f"name {name}: holds codes, and {model} is dense and has none")


def _query_terms(
    texts: Sequence[str], images: Sequence[str], concepts: Sequence[str], withouts: Sequence[str]
) -> list[QueryTerm]:
    from serving.index.query import QueryTerm

    if not (texts or images or concepts):
        raise click.UsageError("name a --text, --image or --concept to look for")
    terms = [QueryTerm(text=text) for text in texts]
    terms += [QueryTerm(image=path) for path in images]
    for sign, words in ((1.0, concepts), (-1.0, withouts)):
        for word in words:
            edit = parse_edit("SET", word)
            weight = sign * (1.0 if edit.value is None else edit.value)
            terms.append(QueryTerm(text=edit.phrase, concept=edit.concept, weight=weight))
    return terms


def _refuse_other_model(target: Target, indexed: Origin, model: str, where: str) -> None:
    """Raises DatabaseError unless the query comes from the model whose codes are searched.

    A server tells only a model's name and version. A bundle of this process is compared by its
    digest as well.
    """
    from bundle.store import default_bundle, open_bundle
    from serving.index.databases.base import Origin

    digest = indexed.bundle
    if not target.server:
        digest = open_bundle(target.bundle or default_bundle()).manifest.digest
    queried = Origin(model=model, bundle=digest, dense_dim=indexed.dense_dim)
    indexed.refuse_other(queried, where)
