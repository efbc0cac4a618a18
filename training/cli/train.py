"""The command `sparseclip train`."""

from __future__ import annotations

import os

import click

from training.cli.run_options import RunOptions, run_options, run_recipe


@click.command()
@click.argument("recipe")
@run_options(folder="runs/RECIPE", example="loop.epochs=2")
def train(recipe: str, options: RunOptions) -> None:
    """Train Sparse CLIP by RECIPE: demo, demo_fine, paper_small, paper_large, paper_large_plus,
    warm_start, or a YAML file.

    A run that was stopped resumes from its last checkpoint. On several GPUs or machines start
    it with torchrun: `torchrun --nproc-per-node 8 -m training RECIPE`.
    """
    from training.trainer.loop import train as run
    from training.trainer.training_recipe import TrainingRecipe

    last = run_recipe(TrainingRecipe, recipe, options, run)
    if last is not None and os.environ.get("RANK", "0") == "0":
        click.echo(f"checkpoint: {last}")
