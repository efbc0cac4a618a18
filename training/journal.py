"""A run's record: a JSON line, TensorBoard scalars and a progress bar at each log step."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from training.distributed import Ranks
from training.step import StepResult


class Journal:
    """Collects step results and writes their means every `every` steps, on the first rank.

    L0 is the mean count of codes above 0. Over the images since the last line a concept is dead
    that never fired, and active that fired on at least two.
    """

    def __init__(self, run: Path, ranks: Ranks, *, steps: int, done: int, every: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.ranks, self.every = ranks, every
        self._results: list[StepResult] = []
        self._samples = 0
        self._since = time.monotonic()
        self._file = None
        if ranks.is_first:
            self._trim(run / "log.jsonl", done)
            self._file = (run / "log.jsonl").open("a")
            self._board = SummaryWriter(str(run / "tensorboard"), purge_step=done)
            self._bar = tqdm(total=steps, initial=done, unit="step", dynamic_ncols=True)

    def add(self, step: int, result: StepResult, *, samples: int, lr: float, norm: Tensor) -> None:
        """Counts one finished step (numbered from 1) of `samples` pairs over all ranks."""
        self._results.append(result)
        self._samples += samples
        if self.ranks.is_first:
            self._bar.update()
        if step % self.every == 0:
            self._write(step, lr, float(norm))

    def close(self) -> None:
        """Flushes everything."""
        if self.ranks.is_first:
            self._bar.close()
            self._board.close()
            assert self._file is not None
            self._file.close()

    def _write(self, step: int, lr: float, norm: float) -> None:
        results, n = self._results, len(self._results)
        means = torch.stack(
            [torch.stack([r.loss, r.image_l0, r.text_l0]).float() for r in results]
        ).sum(0)
        loss, image_l0, text_l0 = (self.ranks.total(means) / (n * self.ranks.count)).tolist()
        fired = self.ranks.total(torch.stack([r.fired for r in results]).sum(0))
        seconds = time.monotonic() - self._since
        line: dict[str, Any] = {
            "step": step,
            "loss": loss,
            "logit_scale": float(results[-1].scale),
            "l0_image": image_l0,
            "l0_text": text_l0,
            "dead": int((fired == 0).sum()),
            "active": int((fired >= 2).sum()),
            "lr": lr,
            "grad_norm": norm,
            "samples_per_second": self._samples / seconds,
        }
        self._results, self._samples, self._since = [], 0, time.monotonic()
        if self._file is None:
            return
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for key, value in line.items():
            self._board.add_scalar(key, value, step)
        self._bar.set_postfix(
            loss=f"{loss:.3f}", scale=f"{line['logit_scale']:.1f}", l0=f"{image_l0:.0f}"
        )

    @staticmethod
    def _trim(path: Path, done: int) -> None:
        """Drops lines past the checkpoint that the run resumes from: those steps come again."""
        if path.is_file():
            lines = [x for x in path.read_text().splitlines() if json.loads(x)["step"] <= done]
            path.write_text("".join(x + "\n" for x in lines))
