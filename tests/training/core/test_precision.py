"""bf16 where the device computes it: found, told, recorded, and kept by a run that goes on."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.support.paths import ROOT
from tests.training.conftest import tiny_recipe
from training.core import precision
from training.core.checkpoint import CheckpointError, find_checkpoint
from training.core.distributed import Ranks
from training.core.precision import autocast, computes_bf16, resolve_precision
from training.trainer.loop import train
from training.trainer.trained_model import read_state

CPU = torch.device("cpu")
ONE = Ranks(rank=0, count=1, device=CPU)


def cpu(monkeypatch: pytest.MonkeyPatch, *, bf16: bool) -> None:
    """The device of this test computes bf16, or does not."""
    monkeypatch.setattr(precision, "computes_bf16", lambda device: bf16)


def test_variables_that_take_avx512_away_take_bf16_away() -> None:
    """In a process of its own, as torch reads them when it starts."""
    code = (
        "import torch; from training.core.precision import computes_bf16;"
        "print(computes_bf16(torch.device('cpu')))"
    )
    older = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    environment = {**os.environ, **older}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, text=True, capture_output=True
    )
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize(
    ("machine", "onednn", "instructions", "computes"),
    [
        ("x86_64", True, True, True),
        ("x86_64", True, False, False),  # AVX-512 alone
        ("x86_64", False, True, False),  # taken away by a variable
        ("aarch64", True, False, True),
        ("aarch64", False, False, False),
    ],
)
def test_a_cpu_computes_it_or_not(
    monkeypatch: pytest.MonkeyPatch,
    machine: str,
    onednn: bool,
    instructions: bool,
    computes: bool,
) -> None:
    operators = SimpleNamespace(_is_mkldnn_bf16_supported=lambda: onednn)
    monkeypatch.setattr(torch.ops, "mkldnn", operators)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    monkeypatch.setattr(precision.platform, "machine", lambda: machine)
    assert computes_bf16(CPU) is computes
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not computes_bf16(CPU)


def test_a_gpu_that_emulates_it_does_not_compute_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert not computes_bf16(torch.device("cuda"))


@pytest.mark.parametrize(
    ("asked", "bf16", "chosen", "level", "told"),
    [
        ("auto", True, "bf16", logging.INFO, "precision: bf16, as this CPU computes bf16"),
        ("auto", False, "fp32", logging.INFO, "precision: fp32, as this CPU does not compute bf16"),
        ("bf16", True, "bf16", logging.INFO, "precision: bf16"),
        ("fp32", True, "fp32", logging.INFO, "precision: fp32"),
        (
            "bf16",
            False,
            "bf16",
            logging.WARNING,
            "precision: bf16, which this CPU does not compute: fp32 is far faster here",
        ),
    ],
)
def test_the_choice_is_told(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    asked: precision.Precision,
    bf16: bool,
    chosen: str,
    level: int,
    told: str,
) -> None:
    cpu(monkeypatch, bf16=bf16)
    with caplog.at_level(logging.INFO, "training"):
        assert resolve_precision(asked, ONE) == chosen
        assert (
            resolve_precision(asked, Ranks(rank=1, count=1, device=CPU)) == chosen
        )  # says nothing
    assert caplog.record_tuples == [("training.core.precision", level, told)]


def test_all_ranks_take_what_every_one_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_one_that_does_not(self: Ranks, lacking: torch.Tensor) -> torch.Tensor:
        return lacking + 1

    cpu(monkeypatch, bf16=True)
    monkeypatch.setattr(Ranks, "total", with_one_that_does_not)
    assert resolve_precision("auto", ONE) == "fp32"


def test_only_bf16_is_autocast() -> None:
    with autocast("bf16", CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with autocast("fp32", CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with pytest.raises(ValueError, match="auto must be resolved first"):
        autocast("auto", CPU)


def recorded(run: Path) -> set[str]:
    """The precision in a run's recipe and in its last checkpoint."""
    recipe = json.loads((run / "recipe.json").read_text())
    state, _ = read_state(find_checkpoint(run))
    return {recipe["loop"]["precision"], state.loop.precision}


@pytest.mark.parametrize("bf16", [True, False])
def test_a_run_records_its_precision_and_keeps_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bf16: bool
) -> None:
    """On whatever device it goes on, so that its losses stay those of one run."""
    name = "bf16" if bf16 else "fp32"
    recipe = tiny_recipe(loop={"precision": "auto"})
    cpu(monkeypatch, bf16=bf16)
    train(recipe, tmp_path / "auto", stop_after=1)
    train(tiny_recipe(loop={"precision": name}), tmp_path / "named", stop_after=2)
    cpu(monkeypatch, bf16=not bf16)
    train(recipe, tmp_path / "auto", stop_after=2)
    assert recorded(tmp_path / "auto") == {name}
    logs = [(tmp_path / run / "log.jsonl").read_text().splitlines() for run in ("auto", "named")]
    losses = [[json.loads(line)["loss"] for line in log] for log in logs]
    assert losses[0] == losses[1]
    other = "fp32" if bf16 else "bf16"
    with pytest.raises(CheckpointError, match="another recipe"):
        train(tiny_recipe(loop={"precision": other}), tmp_path / "auto")
