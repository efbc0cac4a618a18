"""`sparseclip classify`: zero-shot classification of images."""

from __future__ import annotations

import click

from serving.cli._connection import Target, with_target
from serving.cli._coverage import (
    framing_option,
    notes,
    refuse_long_texts_option,
    warn_about_text,
)
from serving.cli._inputs import expand
from serving.cli._output import ResultWriter, as_record, json_option, named, progress
from sparseclip import Classifier, ImageFraming


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
@framing_option
@refuse_long_texts_option
@json_option
@with_target
def classify(
    target: Target,
    images: tuple[str, ...],
    labels: tuple[str, ...],
    templates: tuple[str, ...],
    framing: ImageFraming | None,
    refuse_long_texts: bool,
    as_json: bool,
) -> None:
    """Score images against labels that you choose.

    The column `score` names the model's score. By softmax the scores of an image sum to 1; by
    sigmoid each label has a probability of its own.
    """
    names = [name.strip() for entry in labels for name in entry.split(",")]
    if not all(names):
        raise click.UsageError(f"--labels: label {names.index('') + 1} is empty")
    paths = expand(images)
    with target.open() as client:
        try:
            classifier = client.classifier(
                names, templates=templates, refuse_long_texts=refuse_long_texts
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        context = client.model_info().context_length
        _warn(classifier)
        score = f"score ({classifier.score_kind})"
        writer = ResultWriter("source", "label", score, "next", "notes", as_json=as_json)
        answers = client.embed_stream(paths, framing=framing)
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
                    "score": answer.score,
                    "undecided": answer.undecided,
                    "coverage": as_record(answer.coverage),
                    "labels": {
                        label: as_record(coverage) | {"silent": label in classifier.silent_labels}
                        for label, coverage in classifier.coverage.items()
                    },
                    "model": as_record(answer.model) if answer.model else None,
                },
                answer.source,
                answer.label or f"none: {answer.undecided}",
                f"{answer.scores[answer.label]:.3f}" if answer.label else "",
                named(ranked[1:4] if answer.label else ranked[:4], digits=3),
                "; ".join(notes(answer.coverage, context)),
            )
    writer.close()


def _warn(classifier: Classifier) -> None:
    """Says on stderr what the text tower did not read or does not know of each label."""
    for label, coverage in classifier.coverage.items():
        warn_about_text(label, coverage)
        if label in classifier.silent_labels:
            click.echo(f"Warning: {label!r}: no concept answers to it", err=True)
