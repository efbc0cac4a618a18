"""The training loop: batches in, checkpoints out. B batch, C concepts, S image side."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training.core import checkpoint
from training.core.checkpoint import Progress
from training.core.distributed import Ranks, ranks
from training.core.optimizer import build_optimizer, learning_rate
from training.core.precision import gather_dtype, resolve
from training.core.run import TrainingError, begun_recipe, open_run
from training.core.run_log import Journal
from training.core.seeds import derive_seed
from training.losses import LOSSES
from training.trainer.batch_source import Source
from training.trainer.initialize import start_model
from training.trainer.meter import Meter
from training.trainer.recipe import TrainingRecipe
from training.trainer.step import Step

RANK_STRIDE = 1_009
"""A prime above the number of ranks: the ranks of a step draw different dropout and so on."""


def train(recipe: TrainingRecipe, run: Path, stop_after: int | None = None) -> Path:
    """Trains a recipe in the folder `run` and returns the last checkpoint.

    A folder with checkpoints of the same recipe is resumed, with the losses that the uninterrupted
    run would have had, in its precision. `stop_after` ends the run early, at so many steps.

    Raises CheckpointError when the folder holds another recipe's run, TrainingError when the loss
    is not a number (with `diagnostics.json` left behind).
    """
    if recipe.loop.threads:
        torch.set_num_threads(recipe.loop.threads)
    with ranks(recipe.loop.device) as group:
        return _Run(_resolved(recipe, run, group), run, group).go(stop_after)


def _resolved(recipe: TrainingRecipe, run: Path, group: Ranks) -> TrainingRecipe:
    """The recipe with its precision: that which the run was begun with, or the device's."""
    asked, begun = recipe.loop.precision, begun_recipe(run, TrainingRecipe)
    if asked == "auto" and begun is not None:
        asked = begun.loop.precision
    loop = replace(recipe.loop, precision=resolve(asked, group))
    return replace(recipe, loop=loop)


class _Run:
    def __init__(self, recipe: TrainingRecipe, run: Path, group: Ranks) -> None:
        self.recipe, self.run, self.group = recipe, run, group
        loop = recipe.loop
        if loop.batch_size % group.count:
            raise ValueError(f"loop.batch_size: must divide into {group.count} ranks")
        torch.manual_seed(loop.seed)
        self.model = start_model(recipe).to(group.device)
        if loop.channels_last:
            self.model.image.channels_last()
        self.optimizer = build_optimizer(self.model, recipe.optimizer)
        self.source = Source(recipe, self.model, group)
        self.steps = self.source.steps
        self.average = (
            {k: v.detach().clone() for k, v in self.model.state_dict().items()} if loop.ema else {}
        )
        self.progress = self._resume()
        wrapped: nn.Module = self.model
        if group.count > 1:
            wrapped = DistributedDataParallel(
                self.model, device_ids=[group.device] if group.device.type == "cuda" else None
            )
        self.step = Step(
            wrapped,
            LOSSES.load(loop.loss)(tile=loop.tile, gather_dtype=gather_dtype(loop.precision)),
            micro_batch=loop.micro_batch,
            precision=loop.precision,
            device=group.device,
        )

    def _resume(self) -> Progress:
        start = open_run(self.run, self.recipe, is_first=self.group.is_first)
        if start.checkpoint is not None:
            checkpoint.restore(start.checkpoint, self.model, [self.optimizer], self.average)
        return start.progress

    def go(self, stop_after: int | None) -> Path:
        loop, group = self.recipe.loop, self.group
        last = min(self.steps, stop_after or self.steps)
        done = self.progress.step
        journal = Journal(self.run, steps=self.steps, done=done) if group.is_first else None
        meter = Meter(journal, group, loop.log_every)
        began, before = time.monotonic(), self.progress.seconds
        self.model.train()
        batches = self.source.batches(done)
        try:
            for step in range(done, last):
                # Whatever is random inside the towers depends on the step only, as the data does: a
                # resumed run repeats it without any stored generator state.
                torch.manual_seed(derive_seed(loop.seed, step * RANK_STRIDE + group.rank))
                lr = learning_rate(step, self.steps, self.recipe.optimizer)
                result = self.step(next(batches))
                if not math.isfinite(float(result.loss)):
                    self._diagnose(step, result.loss)
                norm = self._update(lr)
                self._follow(step)
                self.progress = Progress(
                    step=step + 1,
                    samples=self.progress.samples + loop.batch_size,
                    seconds=before + time.monotonic() - began,
                )
                meter.add(step + 1, result, samples=loop.batch_size, lr=lr, norm=norm)
                if (step + 1) % loop.checkpoint_every == 0 or step + 1 == last:
                    self._save()
        finally:
            if journal is not None:
                journal.close()
        group.wait()
        return checkpoint.complete_checkpoints(self.run)[-1]

    def _update(self, lr: float) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["share"]
        limit = self.recipe.optimizer.clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.model.clamp_scale()
        return norm

    @torch.no_grad()
    def _follow(self, step: int) -> None:
        """Moves the average towards the weights, faster in the first steps."""
        if not self.average:
            return
        keep = min(self.recipe.loop.ema, (1 + step) / (10 + step))
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - keep)
            else:
                self.average[name].copy_(value)

    def _save(self) -> None:
        if self.group.is_first:
            checkpoint.save(
                self.run,
                self.model,
                [self.optimizer],
                self.average,
                self.recipe.to_dict(),
                self.progress,
            )
        self.group.wait()

    def _diagnose(self, step: int, loss: Tensor) -> None:
        report: dict[str, Any] = {
            "step": step,
            "loss": str(float(loss)),
            "logit_scale": float(self.model.scale.detach()),
            "bad_parameters": [
                n for n, p in self.model.named_parameters() if not torch.isfinite(p).all()
            ],
            "bad_gradients": [
                n
                for n, p in self.model.named_parameters()
                if p.grad is not None and not torch.isfinite(p.grad).all()
            ],
        }
        if self.group.is_first:
            (self.run / "diagnostics.json").write_text(json.dumps(report, indent=2))
        raise TrainingError(f"step {step}: the loss is {float(loss)}; see diagnostics.json")
