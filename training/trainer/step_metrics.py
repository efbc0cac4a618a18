"""The metrics of each training step, and their means between two lines of the log. C concepts."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bundle.codes import ACTIVE_ABOVE, ACTIVE_ROWS
from training.core.distributed import Ranks
from training.core.run_log import RunLog
from training.model.sparse_clip import LossInputs


class StepResult(NamedTuple):
    """The metrics of a step, on this rank's pairs."""

    loss: Float[Tensor, ""]
    scale: Float[Tensor, ""]
    image_l0: Float[Tensor, ""]
    """Mean number of active concepts per image."""
    text_l0: Float[Tensor, ""]
    """Mean number of active concepts per text."""
    fired: Int[Tensor, " C"]
    """Number of images on which each concept fired."""


@torch.no_grad()
def measure(loss: Float[Tensor, ""], outputs: LossInputs) -> StepResult:
    """Measures a step after its backward pass."""
    image, text = outputs.image > ACTIVE_ABOVE, outputs.text > ACTIVE_ABOVE
    return StepResult(
        loss=loss.detach(),
        scale=outputs.scale.detach(),
        image_l0=image.sum(1).float().mean(),
        text_l0=text.sum(1).float().mean(),
        fired=image.sum(0),
    )


class StepAverages:
    """Collects the results of steps, and logs their means over all ranks every `every` steps.

    A concept is dead when it fired on no image since the last line, and active when it fired on at
    least two.
    """

    def __init__(self, log: RunLog | None, ranks: Ranks, every: int) -> None:
        """Every rank takes part in the means; the one that has a `log` writes them."""
        self.log, self.ranks, self.every = log, ranks, every
        self._results: list[StepResult] = []
        self._samples = 0
        self._since = time.monotonic()

    def add(
        self,
        step: int,
        result: StepResult,
        *,
        samples: int,
        lr: float,
        norm: Tensor,
        bad_pairs: int,
    ) -> None:
        """Adds a finished step, numbered from 1, of `samples` pairs over all ranks. `bad_pairs` is
        how many this rank has left out since the run was started."""
        self._results.append(result)
        self._samples += samples
        if self.log is not None:
            self.log.advance()
        if step % self.every == 0:
            self._write(step, lr, float(norm), bad_pairs)

    def _write(self, step: int, lr: float, norm: float, bad_pairs: int) -> None:
        results, n = self._results, len(self._results)
        sums = torch.stack(
            [torch.stack([r.loss, r.image_l0, r.text_l0]).float() for r in results]
        ).sum(0)
        loss, image_l0, text_l0 = (self.ranks.total(sums) / (n * self.ranks.count)).tolist()
        fired = self.ranks.total(torch.stack([r.fired for r in results]).sum(0))
        scale = float(results[-1].scale)
        figures = {
            "loss": loss,
            "logit_scale": scale,
            "l0_image": image_l0,
            "l0_text": text_l0,
            "dead": int((fired == 0).sum()),
            "active": int((fired >= ACTIVE_ROWS).sum()),
            "lr": lr,
            "grad_norm": norm,
            "bad_pairs": bad_pairs,
            "samples_per_second": self._samples / (time.monotonic() - self._since),
        }
        self._results, self._samples, self._since = [], 0, time.monotonic()
        if self.log is not None:
            bar = {"loss": f"{loss:.3f}", "scale": f"{scale:.1f}", "l0": f"{image_l0:.0f}"}
            self.log.write(step, figures, bar)
