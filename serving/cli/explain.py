"""`sparseclip explain`: where in an image concepts fire."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.markup import escape

from bundle.atomic import draft_of
from serving.cli._connection import Target, with_target
from serving.cli._coverage import framing_option, notes, shown_concept
from serving.cli._inputs import concept_key, expand
from serving.cli._output import ResultWriter, as_record, json_option, progress, stdout
from serving.storage.file_names import printable, spell
from sparseclip import CallError, ConceptExplanation, Explanation, FloatArray, ImageFraming

_SHADES = " ░▒▓█"


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE|FOLDER...")
@click.option(
    "--concept", "keys", multiple=True, metavar="ID|NAME", help="Explain this concept (repeatable)."
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Without --concept: how many of the strongest concepts to explain.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Draw each map over its image, as a PNG file in this folder. A file may replace an older "
    "overlay, but no other file.",
)
@click.option(
    "--captions",
    type=click.IntRange(0, 10),
    default=3,
    show_default=True,
    help="How many of the nearest training captions to show.",
)
@framing_option
@json_option
@with_target
def explain(
    target: Target,
    images: tuple[str, ...],
    keys: tuple[str, ...],
    top: int,
    out: Path | None,
    captions: int,
    framing: ImageFraming | None,
    as_json: bool,
) -> None:
    """Show where in images concepts fire, patch by patch."""
    paths = expand(images)
    concepts = [concept_key(key) for key in keys]
    writer = ResultWriter("source", "error", as_json=as_json)
    with target.open() as client:
        for number, path in enumerate(progress(paths, total=len(paths), text="explaining")):
            try:
                answer = client.explain(
                    path,
                    concepts=concepts,
                    top_concepts=top,
                    overlay=out is not None,
                    framing=framing,
                    captions=captions,
                )
            except CallError as error:
                writer.fail_call(path, error)
                continue
            overlays = [_write(out, number, path, entry) for entry in answer.explanations]
            if as_json:
                writer.add(_record(answer, overlays))
            else:
                _show(answer, overlays)
    writer.close()


def _record(answer: Explanation, overlays: list[str | None]) -> dict[str, Any]:
    return {
        "source": answer.source,
        "model": {"name": answer.model.name, "version": answer.model.version},
        "coverage": as_record(answer.coverage),
        "captions": [as_record(caption) for caption in answer.captions],
        "concepts": [
            {
                **as_record(entry.concept),
                "exact": entry.exact,
                "map": entry.values.tolist(),
                "overlay": overlay,
            }
            for entry, overlay in zip(answer.explanations, overlays, strict=True)
        ],
    }


def _show(answer: Explanation, overlays: list[str | None]) -> None:
    console = stdout()
    console.print(f"[bold]{escape(printable(spell(answer.source)))}[/bold]")
    for line in notes(answer.coverage, 0, active=None if answer.explanations else 0):
        console.print(f"  {escape(line)}")
    if answer.captions:
        captions = "; ".join(caption.text for caption in answer.captions)
        console.print(f"  captions: {escape(captions)}")
    for entry, overlay in zip(answer.explanations, overlays, strict=True):
        arrow = f" -> {overlay}" if overlay else ""
        console.print(f"  {escape(shown_concept(entry.concept))}{escape(arrow)}")
        for line in shade(entry.values):
            console.print(f"    {line}", markup=False)


def shade(values: FloatArray) -> list[str]:
    """A map as lines of text, two characters per patch; the strongest patch is the darkest."""
    peak = float(values.max(initial=0.0))
    steps = np.ceil(values / peak * (len(_SHADES) - 1)) if peak > 0 else np.zeros_like(values)
    return ["".join(_SHADES[int(step)] * 2 for step in row) for row in steps]


def _write(folder: Path | None, number: int, image: str, entry: ConceptExplanation) -> str | None:
    """Writes one overlay, and gives its path.

    The name holds the image's number, its stem and the concept: no two overlays share a file.
    """
    if folder is None:
        return None
    from serving.models.map_overlay import HEAD_BYTES, is_overlay

    name = re.sub(r"[^a-z0-9]+", "-", entry.concept.name.lower()).strip("-")
    file = folder / f"{number:04d}-{Path(image).stem}-{entry.concept.concept_id}-{name}.png"
    try:
        older = False
        if file.is_file():
            with file.open("rb") as stream:
                older = is_overlay(stream.read(HEAD_BYTES))
        with draft_of(file, replace=older) as draft:
            draft.write(entry.overlay_png)
    except FileExistsError:
        problem = f"--out: {file.name}: is there and is no overlay; choose another folder"
        raise click.ClickException(problem) from None
    except OSError as error:
        reason = (error.strerror or "cannot be written").lower()
        raise click.ClickException(f"--out: {reason}") from None
    return str(file)
