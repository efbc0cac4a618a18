"""`sparseclip classify`: zero-shot classification of images."""

from __future__ import annotations

import click

from serving.cli._connection import Target, with_target
from serving.cli._inputs import expand
from serving.cli._output import ResultWriter, as_record, json_option, named, progress


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE|FOLDER...")
@click.option(
    "--labels",
    multiple=True,
    required=True,
    metavar="A,B,C",
    help="The labels to choose from, separated by commas (repeatable).",
)
@click.option(
    "--template",
    "templates",
    multiple=True,
    default=("{}",),
    show_default=True,
    help="A sentence in which {} stands for the label (repeatable; their codes are averaged).",
)
@json_option
@with_target
def classify(
    target: Target,
    images: tuple[str, ...],
    labels: tuple[str, ...],
    templates: tuple[str, ...],
    as_json: bool,
) -> None:
    """Score images against labels that you choose."""
    names = [name.strip() for entry in labels for name in entry.split(",") if name.strip()]
    paths = expand(images)
    writer = ResultWriter("source", "label", "score", "next", as_json=as_json)
    with target.open() as client:
        try:
            classifier = client.classifier(names, templates=templates)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        answers = client.embed_stream(paths)
        for embedded in progress(answers, total=len(paths), text="classifying"):
            answer = classifier.score(embedded)
            if not answer.ok:
                writer.fail(answer.source, answer.status)
                continue
            ranked = sorted(answer.scores.items(), key=lambda entry: -entry[1])
            writer.add(
                {
                    "source": answer.source,
                    "label": answer.label,
                    "scores": dict(answer.scores),
                    "model": as_record(answer.model) if answer.model else None,
                },
                answer.source,
                answer.label,
                f"{answer.scores[answer.label]:.3f}",
                named(ranked[1:4], digits=3),
            )
    writer.close()
