"""`sparseclip train`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from training.cli.options import run_options


@click.command()
@click.argument("recipe")
@run_options(folder="runs/RECIPE", example="loop.epochs=2")
def train(
    recipe: str,
    output: Path | None,
    overrides: tuple[str, ...],
    stop_after: int | None,
    show: bool,
) -> None:
    """Train Sparse CLIP by RECIPE: demo, paper_small, paper_large, paper_large_plus, warm_start, or
    a YAML file.

    A run that was stopped goes on where its last checkpoint is. On several GPUs or machines start
    it with torchrun: `torchrun --nproc-per-node 8 -m training RECIPE`.
    """
    import yaml

    from training.data.recipe import DataError
    from training.trainer.loop import TrainingError
    from training.trainer.loop import train as run
    from training.trainer.recipe import load_recipe

    try:
        resolved = load_recipe(recipe, overrides)
        if show:
            click.echo(yaml.safe_dump(resolved.to_dict(), sort_keys=False), nl=False)
            return
        last = run(resolved, output or Path("runs") / resolved.name, stop_after)
    except (ValueError, DataError, TrainingError) as error:  # SchemaError, CheckpointError too
        raise click.ClickException(str(error)) from None
    if os.environ.get("RANK", "0") == "0":
        click.echo(f"checkpoint: {last}")
