"""`sparseclip embed`: images and texts in, named concepts out."""

from __future__ import annotations

from typing import Any

import click

from serving.cli._connection import Target, with_target
from serving.cli._coverage import (
    framing_option,
    notes,
    refuse_long_texts_option,
    shown_concepts,
)
from serving.cli._inputs import concept_key, expand
from serving.cli._output import ResultWriter, as_record, json_option, progress
from sparseclip import Embedding, ImageFraming, Item, Outputs


@click.command()
@click.argument("images", nargs=-1, metavar="[IMAGE|FOLDER]...")
@click.option("--text", "texts", multiple=True, help="Also embed this text (repeatable).")
@click.option(
    "--top",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="How many concepts to name per item.",
)
@click.option(
    "--dense",
    is_flag=True,
    help="With --json: add the dense vector, where the model has one that images and texts share.",
)
@click.option(
    "--patch", "patch", multiple=True, help="With --json: add this concept's map (repeatable)."
)
@click.option(
    "--captions",
    type=click.IntRange(0, 10),
    default=3,
    show_default=True,
    help="How many of the nearest training captions to show for an image.",
)
@framing_option
@refuse_long_texts_option
@json_option
@with_target
def embed(
    target: Target,
    images: tuple[str, ...],
    texts: tuple[str, ...],
    top: int,
    dense: bool,
    patch: tuple[str, ...],
    captions: int,
    framing: ImageFraming | None,
    refuse_long_texts: bool,
    as_json: bool,
) -> None:
    """Show which named concepts images and texts hold."""
    items = [Item(source=path, image=path) for path in expand(images)]
    items += [Item(source=text, text=text) for text in texts]
    if not items:
        raise click.UsageError("name at least one image or --text")
    outputs = Outputs(
        top_concepts=top,
        dense=dense,
        patch_concepts=tuple(concept_key(key) for key in patch),
        captions=captions,
    )
    columns = ("source", "concepts", "active", "ms", "captions", "notes")
    writer = ResultWriter(*columns, as_json=as_json)
    with target.open() as client:
        context = client.model_info().context_length
        answers = client.embed_stream(
            items, outputs=outputs, framing=framing, refuse_long_texts=refuse_long_texts
        )
        for answer in progress(answers, total=len(items), text="embedding"):
            if not answer.ok:
                writer.fail(answer.source, answer.status)
                continue
            writer.add(
                record(answer),
                answer.source,
                shown_concepts(answer.concepts),
                str(answer.active),
                f"{(answer.timings.decode_us + answer.timings.inference_us) / 1e3:.1f}",
                "; ".join(caption.text for caption in answer.captions),
                "; ".join(notes(answer.coverage, context, active=answer.active)),
            )
    writer.close()


def record(answer: Embedding) -> dict[str, Any]:
    """An answer as a JSON object: the whole code, and the optional outputs that were selected."""
    fields: dict[str, Any] = {
        "source": answer.source,
        "model": as_record(answer.model) if answer.model else None,
        "coverage": as_record(answer.coverage),
        "concepts": [as_record(concept) for concept in answer.concepts],
        "captions": [as_record(caption) for caption in answer.captions],
        "active": answer.active,
        "norm": answer.norm,
        "indices": answer.indices.tolist(),
        "values": answer.values.tolist(),
        "timings": as_record(answer.timings),
    }
    if answer.dense is not None:
        fields["dense"] = answer.dense.tolist()
    if answer.patches:
        fields["patches"] = [
            {"concept_id": entry.concept_id, "map": entry.values.tolist()}
            for entry in answer.patches
        ]
    return fields
