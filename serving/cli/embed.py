"""`sparseclip embed`: images and texts in, named concepts or dense vectors out."""

from __future__ import annotations

from typing import Any

import click

from serving.cli._abilities import refuse_concepts
from serving.cli._connection import Target, with_target
from serving.cli._coverage import (
    framing_option,
    notes,
    refuse_long_texts_option,
    shown_concepts,
)
from serving.cli._inputs import concept_key, expand
from serving.cli._output import ResultWriter, as_record, json_option, progress
from sparseclip import Embedding, ImageFraming, Item, ModelInfo, Outputs

_COLUMNS: tuple[str, ...] = ("source", "concepts", "active", "ms", "captions", "notes")
_DENSE_COLUMNS: tuple[str, ...] = ("source", "width", "norm", "ms", "notes")


@click.command()
@click.argument("images", nargs=-1, metavar="[IMAGE|FOLDER]...")
@click.option("--text", "texts", multiple=True, help="Also embed this text (repeatable).")
@click.option(
    "--top",
    type=click.IntRange(min=0),
    help="How many concepts to name per item.  [default: 10]",
)
@click.option(
    "--dense",
    is_flag=True,
    help="With --json: add the dense vector, where the model has one that images and texts share. "
    "A dense model always sends it.",
)
@click.option(
    "--patch", "patch", multiple=True, help="With --json: add this concept's map (repeatable)."
)
@click.option(
    "--captions",
    type=click.IntRange(0, 10),
    help="How many of the nearest training captions to show for an image.  [default: 3]",
)
@framing_option
@refuse_long_texts_option
@json_option
@with_target
def embed(
    target: Target,
    images: tuple[str, ...],
    texts: tuple[str, ...],
    top: int | None,
    dense: bool,
    patch: tuple[str, ...],
    captions: int | None,
    framing: ImageFraming | None,
    refuse_long_texts: bool,
    as_json: bool,
) -> None:
    """Show which named concepts images and texts hold.

    Of a dense model, which has no concepts, show its vectors: the width and the norm of each, and
    all values with --json.
    """
    items = [Item(source=path, image=path) for path in expand(images)]
    items += [Item(source=text, text=text) for text in texts]
    if not items:
        raise click.UsageError("name at least one image or --text")
    with target.open() as client:
        info = client.model_info()
        refuse_concepts(info, top=top, patch=patch, captions=captions)
        if info.kind == "dense":
            outputs, columns = Outputs(), _DENSE_COLUMNS
        else:
            outputs, columns = _sparse_outputs(top, dense, patch, captions), _COLUMNS
        writer = ResultWriter(*columns, as_json=as_json)
        answers = client.embed_stream(
            items, outputs=outputs, framing=framing, refuse_long_texts=refuse_long_texts
        )
        for answer in progress(answers, total=len(items), text="embedding"):
            if answer.ok:
                writer.add(record(answer), *_cells(answer, info))
            else:
                writer.fail(answer.source, answer.status)
    writer.close()


def _sparse_outputs(
    top: int | None, dense: bool, patch: tuple[str, ...], captions: int | None
) -> Outputs:
    return Outputs(
        top_concepts=10 if top is None else top,
        dense=dense,
        patch_concepts=tuple(concept_key(key) for key in patch),
        captions=3 if captions is None else captions,
    )


def _cells(answer: Embedding, info: ModelInfo) -> tuple[str, ...]:
    """An answer as a row of the table."""
    context = info.context_length
    milliseconds = f"{(answer.timings.decode_us + answer.timings.inference_us) / 1e3:.1f}"
    if answer.width == 0 and answer.dense is not None:
        unread = "; ".join(notes(answer.coverage, context))
        width, norm = str(len(answer.dense)), f"{answer.norm:.3f}"
        return answer.source, width, norm, milliseconds, unread
    return (
        answer.source,
        shown_concepts(answer.concepts),
        str(answer.active),
        milliseconds,
        "; ".join(caption.text for caption in answer.captions),
        "; ".join(notes(answer.coverage, context, active=answer.active)),
    )


def record(answer: Embedding) -> dict[str, Any]:
    """An answer as a JSON object: the whole code, and the optional outputs that were selected. Of a
    dense model, its vector and nothing about concepts."""
    fields: dict[str, Any] = {
        "source": answer.source,
        "model": as_record(answer.model) if answer.model else None,
        "coverage": as_record(answer.coverage),
        "norm": answer.norm,
        "timings": as_record(answer.timings),
    }
    if answer.dense is not None:
        fields["dense"] = answer.dense.tolist()
    if answer.width == 0:
        return fields
    fields |= {
        "concepts": [as_record(concept) for concept in answer.concepts],
        "captions": [as_record(caption) for caption in answer.captions],
        "active": answer.active,
        "indices": answer.indices.tolist(),
        "values": answer.values.tolist(),
    }
    if answer.patches:
        fields["patches"] = [
            {"concept_id": entry.concept_id, "map": entry.values.tolist()}
            for entry in answer.patches
        ]
    return fields
