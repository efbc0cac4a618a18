"""Recipes small enough for a test, on the committed icons."""

from __future__ import annotations

import os

import pytest

from tests.support.paths import ICONS
from training.trainer.training_recipe import TrainingRecipe


def tiny_recipe(**sections: dict[str, object]) -> TrainingRecipe:
    """A transformer of two layers on the icons: no batch statistics, so batches may be split."""
    data: dict[str, object] = {
        "name": "tiny",
        "model": {
            "vision": {
                "image_size": 32,
                "patch_size": 16,
                "width": 32,
                "layers": 2,
                "head_width": 16,
            },
            "text": {
                "width": 32,
                "heads": 2,
                "layers": 1,
                "vocab_size": 600,
                "context_length": 12,
            },
            "embed_dim": 16,
            "width_factor": 8,
            "pool": "patch_mean",
        },
        "data": {"path": str(ICONS)},
        "optimizer": {"lr": 0.002},
        "loop": {
            "epochs": 3,
            "batch_size": 8,
            "precision": "fp32",
            "log_every": 1,
            "checkpoint_every": 3,
            "device": "cpu",
            "threads": 1,
        },
    }
    for name, values in sections.items():
        data[name] = {**data.get(name, {}), **values}  # type: ignore[dict-item]
    return TrainingRecipe.parse(data)


@pytest.fixture(autouse=True)
def _own_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARSECLIP_DATA", raising=False)


def environment() -> dict[str, str]:
    """For child processes: this environment, one thread, without the data's override."""
    kept = {k: v for k, v in os.environ.items() if k != "SPARSECLIP_DATA"}
    return {**kept, "OMP_NUM_THREADS": "1"}
