"""What a training step measured, gathered between two lines of the journal."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from training.core.distributed import Ranks
from training.core.run_log import Journal
from training.trainer.step import StepResult


class Meter:
    """Collects step results and writes their means every `every` steps.

    L0 is the mean count of codes above 0. Over the images since the last line a concept is dead
    that never fired, and active that fired on at least two.
    """

    def __init__(self, journal: Journal | None, ranks: Ranks, every: int) -> None:
        self.journal, self.ranks, self.every = journal, ranks, every
        self._results: list[StepResult] = []
        self._samples = 0
        self._since = time.monotonic()

    def add(self, step: int, result: StepResult, *, samples: int, lr: float, norm: Tensor) -> None:
        """Counts one finished step (numbered from 1) of `samples` pairs over all ranks."""
        self._results.append(result)
        self._samples += samples
        if self.journal is not None:
            self.journal.advance()
        if step % self.every == 0:
            self._write(step, lr, float(norm))

    def _write(self, step: int, lr: float, norm: float) -> None:
        results, n = self._results, len(self._results)
        means = torch.stack(
            [torch.stack([r.loss, r.image_l0, r.text_l0]).float() for r in results]
        ).sum(0)
        loss, image_l0, text_l0 = (self.ranks.total(means) / (n * self.ranks.count)).tolist()
        fired = self.ranks.total(torch.stack([r.fired for r in results]).sum(0))
        scale = float(results[-1].scale)
        line = {
            "loss": loss,
            "logit_scale": scale,
            "l0_image": image_l0,
            "l0_text": text_l0,
            "dead": int((fired == 0).sum()),
            "active": int((fired >= 2).sum()),
            "lr": lr,
            "grad_norm": norm,
            "samples_per_second": self._samples / (time.monotonic() - self._since),
        }
        self._results, self._samples, self._since = [], 0, time.monotonic()
        if self.journal is not None:
            shown = {"loss": f"{loss:.3f}", "scale": f"{scale:.1f}", "l0": f"{image_l0:.0f}"}
            self.journal.write(step, line, shown)
