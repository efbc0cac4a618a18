"""The command `sparseclip import`: a CLIP of another library as a bundle."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from training.cli.models_option import models_option


@click.command("import")
@click.argument("source")
@click.option("--name", required=True, help="Name of the model.")
@click.option(
    "--version",
    default="1",
    show_default=True,
    help="Version; an existing one is never changed.",
)
@models_option
@click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of weights (.safetensors or .pt) for open_clip:ARCH.",
)
@click.option(
    "--storage",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="How weights are stored; float16 rounds them, and halves the files.",
)
@click.option(
    "--licence",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the licence of the weights.  [default: what the source brings, or unknown]",
)
def import_model(
    source: str,
    name: str,
    version: str,
    models_dir: Path,
    weights: Path | None,
    storage: str,
    licence: Path | None,
) -> None:
    """Import a CLIP of another library as a dense bundle.

    SOURCE is open_clip:ARCH/TAG, open_clip:hf-hub:ORG/REPO, open_clip:local-dir:PATH,
    open_clip:ARCH with --weights, hf:PATH for a folder of Hugging Face, or run:PATH, or the path
    alone, for the folder of a run that trained a dense model here. The command compares pixels,
    tokens and vectors with the source library's own. It writes no bundle when they differ.
    """
    from bundle.plugins import PluginError
    from bundle.store import BundleError
    from training.huggingface.model_error import ModelImportError
    from training.importing.import_bundle import ImportConfig, import_bundle

    config = ImportConfig(
        source=source,
        name=name,
        version=version,
        models_dir=models_dir,
        weights=weights,
        storage="float16" if storage == "float16" else "float32",
        licence=licence,
    )
    try:
        with _steps() as report:
            path = import_bundle(config, report)
    except (ModelImportError, PluginError, BundleError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"bundle: {path}")


SHOWN_AFTER_S = 1.5
"""A step that takes longer is shown. So a refusal, which takes less, is one line."""


@contextmanager
def _steps() -> Iterator[Callable[[str], None]]:
    """A function that gets the name of each step, and shows those that last."""
    start, timers = time.monotonic(), list[threading.Timer]()

    def show(step: str, began: float) -> None:
        click.echo(f"{began - start:6.1f} s  {step}", err=True)

    def report(step: str) -> None:
        for timer in timers:
            timer.cancel()
        timers[:] = [threading.Timer(SHOWN_AFTER_S, show, (step, time.monotonic()))]
        timers[0].daemon = True
        timers[0].start()

    try:
        yield report
    finally:
        for timer in timers:
            timer.cancel()
