"""What steps measure, and their means between two lines of the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from training.core.distributed import Ranks
from training.model.sparse_clip import LossInputs
from training.trainer.step_metrics import StepAverages, measure

ONE = Ranks(rank=0, count=1, device=torch.device("cpu"))


class Log:
    """Keeps what a RunLog would write."""

    def __init__(self) -> None:
        self.steps, self.lines = 0, list[tuple[int, Mapping[str, float]]]()

    def advance(self) -> None:
        self.steps += 1

    def write(self, step: int, figures: Mapping[str, float], bar: Mapping[str, str]) -> None:
        self.lines.append((step, figures))


def inputs(image: list[list[float]]) -> LossInputs:
    codes = torch.tensor(image)
    return LossInputs(codes, torch.ones_like(codes), torch.tensor(9.0), {})


def test_a_line_has_the_means_since_the_line_before() -> None:
    log: Any = Log()
    averages = StepAverages(log, ONE, every=2)
    batches = [
        inputs([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]),
        inputs([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]),
        inputs([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]]),
    ]
    for step, batch in enumerate([*batches, batches[2]], start=1):
        result = measure(torch.tensor(float(step)), batch)
        averages.add(step, result, samples=2, lr=0.1, norm=torch.tensor(0.5), bad_pairs=0)
    (first, early), (second, late) = log.lines
    assert (log.steps, first, second) == (4, 2, 4)
    assert (early["loss"], late["loss"]) == (1.5, 3.5)
    assert (early["l0_image"], late["l0_image"]) == (1.0, 0.5)
    assert early["l0_text"] == 3.0
    # Of 4 images, concept 0 fired on three, 1 on one, and 2 on none.
    assert (early["active"], early["dead"]) == (1, 1)
    assert (late["active"], late["dead"]) == (1, 2)
    assert early["logit_scale"] == 9.0
    assert (early["lr"], early["grad_norm"]) == pytest.approx((0.1, 0.5))


def test_a_rank_without_a_log_takes_part_in_the_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the rank that writes the log would wait for it for ever."""
    summed: list[torch.Tensor] = []

    def total(self: Ranks, x: torch.Tensor) -> torch.Tensor:
        summed.append(x)
        return x

    monkeypatch.setattr(Ranks, "total", total)
    averages = StepAverages(None, ONE, every=1)
    result = measure(torch.tensor(1.0), inputs([[1.0]]))
    averages.add(1, result, samples=1, lr=0.1, norm=torch.tensor(0.5), bad_pairs=0)
    assert [x.tolist() for x in summed] == [[1.0, 1.0, 1.0], [1]]
