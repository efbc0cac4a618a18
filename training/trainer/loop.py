"""The training loop: batches in, checkpoints out."""

from __future__ import annotations

import json
import logging
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
from training.core.distributed import Ranks, join_ranks
from training.core.optimizer import build_optimizer, learning_rate, set_learning_rate
from training.core.precision import gather_dtype, resolve_precision
from training.core.resume import TrainingError, begun_recipe, open_run
from training.core.run_log import RunLog
from training.core.seeds import derive_seed
from training.loading.pairs import resolve_held_out
from training.losses import LOSSES
from training.model.sentence_source import resolved_text
from training.trainer.batch_source import BatchSource
from training.trainer.initial_weights import initial_model
from training.trainer.step import TrainingStep
from training.trainer.step_metrics import StepAverages
from training.trainer.training_recipe import TrainingRecipe

logger = logging.getLogger(__name__)

RANK_STRIDE = 1_009
"""A prime above the number of ranks, so that no two ranks and steps share a seed."""


def train(recipe: TrainingRecipe, run: Path, stop_after: int | None = None) -> Path:
    """Trains a recipe in the folder `run` and returns the last checkpoint.

    A run that was stopped resumes from its last checkpoint, in its precision, with the rule by
    which its pairs were held out, and with the losses that it would have had without the stop. With
    `stop_after` the run ends after that many steps in all.

    Raises CheckpointError when the folder holds another recipe's run or something else, and
    TrainingError when the loss is not finite; the folder then has a `diagnostics.json`.
    """
    if recipe.loop.threads:
        torch.set_num_threads(recipe.loop.threads)
    with join_ranks(recipe.loop.device) as ranks:
        begun = begun_recipe(run, TrainingRecipe)
        precision = resolve_precision(
            recipe.loop.precision, ranks, None if begun is None else begun.loop.precision
        )
        held_out = resolve_held_out(recipe.data, None if begun is None else begun.data)
        resolved = replace(
            recipe,
            loop=replace(recipe.loop, precision=precision),
            data=replace(recipe.data, held_out=held_out),
            model=replace(recipe.model, text=resolved_text(recipe.model.text)),
        )
        return _TrainingRun(resolved, run, ranks).go(stop_after)


class _TrainingRun:
    def __init__(self, recipe: TrainingRecipe, run: Path, ranks: Ranks) -> None:
        self.recipe, self.run, self.ranks = recipe, run, ranks
        loop = recipe.loop
        if loop.batch_size % ranks.count:
            raise ValueError(f"loop.batch_size: must divide into {ranks.count} ranks")
        torch.manual_seed(loop.seed)
        self.model = initial_model(recipe).to(ranks.device)
        if loop.channels_last:
            self.model.image.channels_last()
        self.optimizer = build_optimizer(self.model, recipe.optimizer)
        self.source = BatchSource(recipe, self.model, ranks)
        self.steps = self.source.steps
        self.average = (
            {k: v.detach().clone() for k, v in self.model.state_dict().items()} if loop.ema else {}
        )
        """The running average of the weights; empty when the recipe keeps none."""
        self.progress = self._open()
        wrapped: nn.Module = self.model
        if ranks.count > 1:
            wrapped = DistributedDataParallel(
                self.model, device_ids=[ranks.device] if ranks.device.type == "cuda" else None
            )
        self.step = TrainingStep(
            wrapped,
            LOSSES.load(loop.loss)(tile=loop.tile, gather_dtype=gather_dtype(loop.precision)),
            micro_batch=loop.micro_batch,
            precision=loop.precision,
            device=ranks.device,
            mask_equal_captions=loop.mask_equal_captions,
            l1=loop.l1,
            ground=loop.ground,
        )

    def _open(self) -> Progress:
        start = open_run(self.run, self.recipe, is_first=self.ranks.is_first)
        if start.checkpoint is not None:
            checkpoint.restore(start.checkpoint, self.model, [self.optimizer], self.average)
        return start.progress

    def go(self, stop_after: int | None) -> Path:
        loop, ranks = self.recipe.loop, self.ranks
        last = min(self.steps, stop_after or self.steps)
        done = self.progress.step
        log = RunLog(self.run, steps=self.steps, done=done) if ranks.is_first else None
        averages = StepAverages(log, ranks, loop.log_every)
        began, seconds_before = time.monotonic(), self.progress.seconds
        self.model.train()
        batches = self.source.batches(done)
        try:
            for step in range(done, last):
                # Randomness inside the towers depends on the step only, as that of the data does,
                # so that a resumed run repeats it without a stored generator state.
                torch.manual_seed(derive_seed(loop.seed, step * RANK_STRIDE + ranks.rank))
                lr = learning_rate(step, self.steps, self.recipe.optimizer)
                result = self.step(next(batches))
                if not math.isfinite(float(result.loss)):
                    self._stop_with_diagnostics(step, result.loss)
                norm = self._update(lr)
                self._update_average(step)
                self.progress = Progress(
                    step=step + 1,
                    samples=self.progress.samples + loop.batch_size,
                    seconds=seconds_before + time.monotonic() - began,
                )
                averages.add(
                    step + 1,
                    result,
                    samples=loop.batch_size,
                    lr=lr,
                    norm=norm,
                    bad_pairs=self.source.tally.bad,
                )
                if (step + 1) % loop.checkpoint_every == 0 or step + 1 == last:
                    self._save()
        finally:
            if log is not None:
                log.close()
            if self.source.tally.found:
                logger.info("%s: %s", self.source.tally.data, self.source.tally.summary())
        ranks.wait()
        return checkpoint.complete_checkpoints(self.run)[-1]

    def _update(self, lr: float) -> Tensor:
        """Takes an optimiser step with the gradients, and returns their norm before clipping."""
        set_learning_rate(self.optimizer, lr)
        limit = self.recipe.optimizer.clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.model.clamp_scale()
        return norm

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        """Moves the average towards the weights, faster in the first steps."""
        if not self.average:
            return
        # Early on the average would else consist of the initial weights.
        decay = min(self.recipe.loop.ema, (1 + step) / (10 + step))
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:  # counters of batch norms
                self.average[name].copy_(value)

    def _save(self) -> None:
        if self.ranks.is_first:
            checkpoint.save(
                self.run,
                self.model,
                [self.optimizer],
                self.average,
                self.recipe.to_dict(),
                self.progress,
            )
        self.ranks.wait()

    def _stop_with_diagnostics(self, step: int, loss: Tensor) -> None:
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
        if self.ranks.is_first:
            (self.run / "diagnostics.json").write_text(json.dumps(report, indent=2))
        raise TrainingError(f"step {step}: the loss is {float(loss)}; see diagnostics.json")
