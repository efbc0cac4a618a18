"""Trains one head on cached embeddings: batches in, checkpoints out."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from bundle.plugins import PluginError
from training.core import checkpoint
from training.core.checkpoint import Progress
from training.core.optimizer import build_optimizer, learning_rate, set_learning_rate
from training.core.resume import TrainingError, open_run
from training.core.run_log import RunLog
from training.core.seeds import derive_seed
from training.sparsify.embeddings.head_data import HeadData
from training.sparsify.heads import HEADS
from training.sparsify.heads.base import CodeHead, HeadRecipe

LOG_EVERY = 10


@dataclass(frozen=True, kw_only=True)
class TrainedHead:
    """A head that is done."""

    head: CodeHead
    untrained: CodeHead
    """The same with random weights: the control of every figure of interpretability."""
    seconds: float
    """Time of its steps."""


def build_head(recipe: HeadRecipe, data: HeadData) -> CodeHead:
    """A head with its first weights. Raises PluginError for an unknown one, or one that the data do
    not suffice for."""
    kind = HEADS.load(recipe.name)
    if kind.needs_captions and not data.has_captions:
        raise PluginError(f"head {recipe.name}: needs captions, and the data have none")
    torch.manual_seed(recipe.seed)
    head = kind(recipe)
    with torch.no_grad():
        head.begin(data)
    return head


def train_head(
    recipe: HeadRecipe, data: HeadData, run: Path, stop_after: int | None = None
) -> TrainedHead:
    """Trains a head in the folder `run`, where a run that was stopped resumes.

    With `stop_after` the run ends after that many steps in all. Raises CheckpointError when the
    folder holds another recipe's run, and TrainingError when the loss is not finite.
    """
    head = build_head(recipe, data)
    untrained = build_head(recipe, data).eval()
    untrained.finish(data)
    torch.manual_seed(recipe.seed)
    with torch.no_grad():
        head.learn(data)
    if not head.trains:
        return _without_steps(head, untrained, data)
    optimizer = build_optimizer(head, recipe.optimizer)
    start = open_run(run, recipe)
    if start.checkpoint is not None:
        checkpoint.restore(start.checkpoint, head, [optimizer], {})
    progress = start.progress
    last = min(recipe.steps, stop_after or recipe.steps)
    log = RunLog(run, steps=recipe.steps, done=progress.step)
    began = time.monotonic() - progress.seconds
    head.train()
    try:
        for step in range(progress.step, last):
            torch.manual_seed(derive_seed(recipe.seed, step))
            loss, norm = _step(head, optimizer, recipe, data, step)
            progress = Progress(
                step=step + 1,
                samples=progress.samples + recipe.batch_size,
                seconds=time.monotonic() - began,
            )
            log.advance()
            if (step + 1) % LOG_EVERY == 0 or step + 1 == last:
                figures = {"loss": loss, "gradient": norm, "scale": head.scale}
                bar = {"loss": f"{loss:.3f}", "scale": f"{head.scale:.1f}"}
                log.write(step + 1, figures, bar)
            if (step + 1) % recipe.checkpoint_every == 0 or step + 1 == last:
                checkpoint.save(run, head, [optimizer], {}, recipe.to_dict(), progress)
    finally:
        log.close()
    head.eval()
    if progress.step >= recipe.steps:
        head.finish(data)
    return TrainedHead(head=head, untrained=untrained, seconds=progress.seconds)


def _without_steps(head: CodeHead, untrained: CodeHead, data: HeadData) -> TrainedHead:
    began = time.monotonic()
    head.finish(data)
    return TrainedHead(head=head.eval(), untrained=untrained, seconds=time.monotonic() - began)


def _step(
    head: CodeHead,
    optimizer: torch.optim.Optimizer,
    recipe: HeadRecipe,
    data: HeadData,
    step: int,
) -> tuple[float, float]:
    """Takes a step; returns its loss and the norm of its gradient before it was clipped."""
    set_learning_rate(optimizer, learning_rate(step, recipe.steps, recipe.optimizer))
    batch = data.batch(
        step,
        recipe.batch_size,
        recipe.texts,
        recipe.seed,
        captions=head.needs_captions,
        mixing=recipe.mixing,
    )
    loss = head.loss(batch)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingError(
            f"head {recipe.name}: step {step + 1}: the loss is {value}; try a lower --lr"
        )
    loss.backward()
    limit = recipe.optimizer.clip_norm or math.inf
    norm = float(nn.utils.clip_grad_norm_(head.parameters(), limit))
    optimizer.step()
    optimizer.zero_grad()
    head.after_step()
    return value, norm
