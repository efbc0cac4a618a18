"""The commands `sparseclip bundle`: export a checkpoint, verify and inspect bundles."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundle.bundle_path import BundlePath
from training.cli.evaluate import find_judge
from training.cli.models_option import models_option
from training.cli.pair_options import (
    PairOptions,
    errors_as_typed,
    held_out_option,
    pair_options,
)
from training.cli.vocabulary_options import (
    check_coverage_file,
    report_coverage,
    vocabulary_options,
)

if TYPE_CHECKING:
    from bundle.store import Bundle

_SECTIONS = (
    "architecture",
    "preprocessing",
    "tokenization",
    "training",
    "origin",
    "source_parity",
)
"""Parts of a manifest that `bundle inspect` lists."""


@click.group()
def bundle() -> None:
    """Export, verify and inspect bundles.

    A bundle is the folder of a version, models/NAME/VERSION; models/NAME means the current one.
    """


@bundle.command()
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", required=True, help="Name of the model.")
@click.option("--version", required=True, help="Version; an existing one is never changed.")
@models_option
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    help="The data of the run: held-out splits for figures, words for concept names.  [default: as"
    " in its recipe]",
)
@pair_options
@click.option(
    "--licence",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=Path("LICENSE"),
    show_default=True,
    help="File with the licence of the weights.",
)
@click.option(
    "--research-run",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A run of the same recipe on data that hold more out; the card adds its figures, as those "
    "of another model.",
)
@vocabulary_options
def export(
    checkpoint: Path,
    name: str,
    version: str,
    models_dir: Path,
    data: Path | None,
    read_as: PairOptions,
    licence: Path,
    research_run: Path | None,
    vocabulary: Path | None,
    coverage: Path | None,
) -> None:
    """Export a checkpoint as a bundle.

    CHECKPOINT is the folder of a checkpoint or of a run. The command evaluates the model, names its
    concepts and writes its graphs. It writes no bundle when the graphs disagree with torch. Clarity
    needs the encoder that `sparseclip data encoder` fetches.
    """
    from bundle.store import vacant_version

    check_coverage_file(vocabulary, coverage)
    if data is None:
        read_as.refuse("wants --data; a recipe says how its own data are read")
    with _errors_as_one_line():
        vacant_version(models_dir, name, version)  # fails now, not after minutes of work
    from bundle.plugins import PluginError
    from training.bundling.bundle_writer import BundleExportError
    from training.bundling.name_vocabulary import read_vocabulary
    from training.bundling.release import ReleaseConfig, release
    from training.core.checkpoint import CheckpointError
    from training.data.data_recipe import DataError

    errors = (CheckpointError, DataError, BundleExportError, PluginError)
    with _errors_as_one_line(*errors), nullcontext() if data is None else errors_as_typed():
        words = None if vocabulary is None else read_vocabulary(vocabulary)
        path = release(
            ReleaseConfig(
                run=checkpoint,
                data=None if data is None else read_as.open(data),
                models_dir=models_dir,
                name=name,
                version=version,
                licence=licence,
                vocabulary=words,
                judge=find_judge(),
                research_run=research_run,
            )
        )
        click.echo(f"bundle: {path}")
        report_coverage(path, words, coverage)


@bundle.command("name-concepts")
@click.argument("path", type=BundlePath())
@click.option("--version", required=True, help="The new version; an existing one is never changed.")
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    default=Path("data/build/demo"),
    show_default=True,
    help="Data that the model was trained on, of any kind that `sparseclip train` takes.",
)
@pair_options
@held_out_option
@click.option("--split", default="train", show_default=True, help="The split that was trained on.")
@vocabulary_options
@models_option
@click.option(
    "--card",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The card of the new version.  [default: the old one, with the figures of the new names]",
)
def name_concepts(
    path: Path,
    version: str,
    data: Path,
    read_as: PairOptions,
    split: str,
    vocabulary: Path | None,
    coverage: Path | None,
    models_dir: Path,
    card: Path | None,
) -> None:
    """Name the concepts of the bundle at PATH again, in a new version of it.

    The codes of the data come from the bundle's own graphs. Names, their confidence and the
    captions that name images are new; weights, graphs, adapter and licence stay.
    """
    from bundle.plugins import PluginError
    from training.bundling.name_vocabulary import read_vocabulary
    from training.bundling.naming import NamingConfig, name_again
    from training.data.data_recipe import DataError

    check_coverage_file(vocabulary, coverage)
    with _errors_as_one_line(DataError, PluginError), errors_as_typed():
        words = None if vocabulary is None else read_vocabulary(vocabulary)
        written = name_again(
            NamingConfig(
                bundle=path,
                data=read_as.open(data),
                models_dir=models_dir,
                version=version,
                split=split,
                vocabulary=words,
                card=card,
            )
        )
        click.echo(f"bundle: {written}")
        report_coverage(written, words, coverage)


@bundle.command()
@click.argument("path", type=BundlePath())
def verify(path: Path) -> None:
    """Verify the bundle at PATH.

    Every byte is checked against the manifest, and every part is opened.
    """
    opened = _open(path)
    with _errors_as_one_line():
        concepts, ids = len(opened.concepts), opened.tokenizer.vocabulary
    manifest = opened.manifest
    size = sum(entry.bytes for entry in manifest.files.values())
    click.echo(
        f"{manifest.name}/{manifest.version}: good ({len(manifest.files)} files,"
        f" {size / 1e6:.1f} MB, {concepts} concepts, {ids} token ids)"
    )


@bundle.command()
@click.argument("path", type=BundlePath())
@click.option(
    "--top",
    default=20,
    show_default=True,
    help="Concepts to show, most frequent first.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(path: Path, top: int, as_json: bool) -> None:
    """Show the contents of the bundle at PATH: manifest, figures, files, concepts."""
    opened = _open(path)
    with _errors_as_one_line():
        frequent = sorted(opened.concepts.concepts, key=lambda c: (-c.frequency, c.id))[:top]
    if as_json:
        data = dataclasses.asdict(opened.manifest)
        click.echo(json.dumps(data | {"concepts": [dataclasses.asdict(c) for c in frequent]}))
        return
    from rich.console import Console
    from rich.table import Table

    console, manifest = Console(), opened.manifest
    table = Table(title=f"{manifest.name} {manifest.version}", show_header=False)
    table.add_row("kind", manifest.kind)
    for section in _SECTIONS:
        fields = getattr(manifest, section)
        values = dataclasses.asdict(fields) if fields else {}
        encoder = values.pop("text_encoder", None) or {}
        values |= {f"text_encoder.{key}": value for key, value in encoder.items()}
        for key, value in values.items():
            if not isinstance(value, dict) and value is not None:
                table.add_row(f"{section}.{key}", _text(value))
    for key, figure in (manifest.training.figures if manifest.training else {}).items():
        table.add_row(f"figures.{key}", f"{figure:g}")
    for graph in ("image", "text", "patch"):
        if parity := getattr(manifest, f"{graph}_parity"):
            overlap = parity.min_support_jaccard
            support = "" if overlap is None else f" support {overlap:.4f},"
            table.add_row(
                f"parity.{graph}",
                f"cosine {parity.min_cosine:.6f},{support} {parity.items} rows, {parity.runtime}",
            )
    console.print(table)
    files = Table("file", "bytes", "sha256", title="files")
    for name, entry in manifest.files.items():
        files.add_row(name, f"{entry.bytes:,}", entry.sha256[:16])
    console.print(files)
    if not frequent:
        return
    concepts = Table("id", "concept", "fires on", "images", "words", title="concepts")
    for c in frequent:
        words = ", ".join(e.source for e in c.words[:4])
        modality = "" if c.modality is None else f"{c.modality:.2f}"
        concepts.add_row(str(c.id), c.name, f"{c.frequency:.1%}", modality, words)
    console.print(concepts)


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _open(path: Path) -> Bundle:
    from bundle.store import open_bundle

    with _errors_as_one_line():
        return open_bundle(path)


@contextmanager
def _errors_as_one_line(*errors: type[Exception]) -> Iterator[None]:
    """Ends the command with the message of an error that the user can correct."""
    from bundle.store import BundleError

    expected: tuple[type[Exception], ...] = (BundleError, *errors)
    try:
        yield
    except expected as error:
        raise click.ClickException(str(error)) from None
